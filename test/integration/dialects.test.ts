/** The dialects beside each other on one server: the same text gives the same vector in each, in its shape. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { quantizeVector } from '../../src/engines/quantize-vectors.ts'
import { cosine } from '../../src/engines/vectors.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

const prompts = {
  query: 'Instruct: find the animal\nQuery:',
  document: 'the text: ',
  classification: 'a class of ',
}
let tiny: TinyServer
beforeAll(async () => {
  tiny = await startTinyServer({}, {}, { prompts })
})
afterAll(() => tiny[Symbol.asyncDispose]())

const post = async (url: string, payload: object, headers: Record<string, string> = {}, server = tiny) => {
  const answer = await server.server.app.inject({ method: 'POST', url, payload, headers })
  return { status: answer.statusCode, headers: answer.headers, body: answer.json() as unknown }
}
const get = async (url: string) => {
  const answer = await tiny.server.app.inject({ method: 'GET', url })
  return { status: answer.statusCode, body: answer.json() as unknown }
}
const embed = async (inputs: string, fields: object = {}): Promise<number[]> => {
  const { status, body } = await post('/embed', { inputs, ...fields })
  expect(status).toBe(200)
  return (body as number[][])[0]!
}
const longText = 'the cat and the dog '.repeat(40)

describe('TEI', () => {
  it('gives a vector for each token, special tokens included, raw', async () => {
    const { body } = await post('/embed_all', { inputs: ['the cat', 'a dog and a cat'] })
    const rows = body as number[][][]
    expect(rows.map((one) => one.length)).toEqual([4, 7])
    expect(rows.flat().every((row) => row.length === 32)).toBe(true)
    // The tiny model pools by mean and normalises.
    const mean = Float32Array.from({ length: 32 }, (_, i) => rows[0]!.reduce((sum, row) => sum + row[i]!, 0))
    expect(cosine(mean, Float32Array.from(await embed('the cat')))).toBeGreaterThan(0.99999)
  })

  it('streams an answer of many tokens whole, and bounds it', async () => {
    const inputs = Array.from({ length: 100 }, () => longText)
    const { body } = await post('/embed_all', { inputs })
    expect((body as number[][][]).map((one) => one.length)).toEqual(inputs.map(() => 64))
    await using bounded = await startTinyServer({ maxTokenOutputBytes: 64 * 32 * 4 })
    const ask = async (payload: object) => {
      const answer = await bounded.server.app.inject({ method: 'POST', url: '/embed_all', payload })
      return [answer.statusCode, answer.json<{ code?: string }>().code]
    }
    expect(await ask({ inputs: longText })).toEqual([200, undefined])
    expect(await ask({ inputs: [longText, 'a'] })).toEqual([413, 'TOKEN_OUTPUT_TOO_LARGE'])
    expect(bounded.pipeline.queueState).toMatchObject({ requests: 0, tokens: 0 })
  })

  it('compares sentences with one another', async () => {
    const inputs = { source_sentence: 'the cat', sentences: ['a dog', 'the cat'] }
    const { body } = await post('/similarity', { inputs })
    const [dog, cat] = body as number[]
    const vectors = await Promise.all(['the cat', 'a dog'].map((text) => embed(text)))
    expect(dog).toBeCloseTo(cosine(Float32Array.from(vectors[0]!), Float32Array.from(vectors[1]!)), 5)
    expect(cat).toBeCloseTo(1, 6)
    const prompted = await post('/similarity', { inputs, parameters: { prompt_name: 'document' } })
    expect((prompted.body as number[])[0]).not.toBeCloseTo(dog!, 3)
    expect(await post('/similarity', { inputs: { sentences: ['a'] } })).toMatchObject({ status: 422 })
  })

  it('unwraps the instances of Vertex AI, each with its own fields', async () => {
    const instances = Array.from({ length: 30 }, (_, i) => ({
      inputs: ['the cat', 'a dog'].slice(0, (i % 2) + 1),
      normalize: i > 0,
    }))
    const { status, body } = await post('/vertex', { instances })
    expect(status).toBe(200)
    const { predictions } = body as { predictions: number[][][] }
    expect(predictions.map((one) => one.length)).toEqual(instances.map((one) => one.inputs.length))
    expect(predictions[1]![0]).toEqual(await embed('the cat'))
    expect(Math.hypot(...predictions[0]![0]!)).not.toBeCloseTo(1, 2)
    expect((await post('/vertex', { instances: [] })).body).toEqual({ predictions: [] })
    expect(await post('/vertex', { instances: [{ inputs: 'a' }, { inputs: 5 }] })).toMatchObject({
      status: 422,
      body: { error: expect.stringMatching(/^instance 1: 'inputs' is 5/) as string },
    })
    expect(await post('/vertex', { instances: [{ query: 'a', texts: ['b'] }] })).toMatchObject({
      status: 424,
    })
  })

  it('tells what was cut from all instances together', async () => {
    const cut = { inputs: ['a', longText] }
    const instances = [cut, { inputs: 'a', truncation_direction: 'left' }, cut]
    const { headers } = await post('/vertex', { instances })
    expect(headers).toMatchObject({ 'x-truncated-inputs': '2', 'x-truncation-direction': 'right' })
    const one = await post('/embed', cut)
    expect(Number(headers['x-truncated-tokens'])).toBe(2 * Number(one.headers['x-truncated-tokens']))
  })

  it('answers 424 where another kind of model is needed, after its own checks', async () => {
    const backend = { status: 424, body: { error_type: 'Backend', code: 'TASK_NOT_SUPPORTED' } }
    expect(await post('/rerank', { query: 'a', texts: ['b'] })).toMatchObject(backend)
    expect(await post('/rerank', { query: 'a', texts: [] })).toMatchObject({ status: 400 })
    expect(await post('/rerank', { query: 'a' })).toMatchObject({ status: 422 })
    expect(await post('/predict', { inputs: [['a', 'b'], ['c']] })).toMatchObject(backend)
    expect(await post('/predict', { inputs: [] })).toMatchObject({ status: 422 })
    expect(await post('/embed_sparse', { inputs: 'a' })).toMatchObject(backend)
    expect(await post('/embed_sparse', { inputs: [] })).toMatchObject({ status: 400 })
  })

  it('tokenizes with a prompt and decodes lists', async () => {
    const { body } = await post('/tokenize', { inputs: ['cat'], prompt_name: 'document' })
    const [tokens] = body as { id: number; text: string; start: number | null; stop: number | null }[][]
    expect(tokens!.map((token) => token.text).join(' ')).toBe('[CLS] the text : cat [SEP]')
    expect(tokens!.at(-2)).toMatchObject({ start: 10, stop: 13 })
    const ids = tokens!.map((token) => token.id)
    expect((await post('/decode', { ids: [ids, ids.slice(1, 2)] })).body).toEqual(['the text : cat', 'the'])
    expect(await post('/decode', { ids: [ids, []] })).toMatchObject({ status: 400 })
    expect(await post('/decode', { ids: [-1] })).toMatchObject({ status: 422 })
    expect(await post('/tokenize', { inputs: 'a', prompt_name: 'x' })).toMatchObject({ status: 422 })
  })

  it('describes its API where TEI does', async () => {
    const { body } = await get('/api-doc/openapi.json')
    const paths = Object.keys((body as { paths: object }).paths)
    const page = readFileSync(new URL('../../docs/http.md', import.meta.url), 'utf8')
    const [table] = page.slice(page.indexOf('| route')).split('\n\n')
    const documented = [...table!.matchAll(/`(?:(?:GET|POST) )?(\/[^`]*)`/g)].map(([, path]) => path!)
    expect(new Set(paths.map((path) => path.replace('{*}', '{name}')))).toEqual(
      new Set(documented.filter((path) => path !== '/docs')),
    )
  })
})

describe('openapi.json', () => {
  it('is as open as /docs', async () => {
    await using closed = await startTinyServer({ docsAccess: 'off' })
    const answer = await closed.server.app.inject('/api-doc/openapi.json')
    expect(answer.statusCode).toBe(404)
  })
})

describe('OpenAI', () => {
  it.each(['int8', 'uint8', 'binary', 'ubinary'] as const)(
    'gives %s as numbers and as base64',
    async (type) => {
      const expected = [...quantizeVector(Float32Array.from(await embed('the cat')), type)]
      const ask = (encoding_format: string) =>
        post('/v1/embeddings', { input: 'the cat', output_dtype: type, encoding_format })
      expect((await ask('float')).body).toMatchObject({ data: [{ embedding: expected }] })
      const bytes = Buffer.from(Uint8Array.from(expected)).toString('base64')
      expect((await ask('base64')).body).toMatchObject({ data: [{ embedding: bytes }] })
    },
  )

  it('refuses int8 of vectors that are not normalised', async () => {
    const body = { input: 'a', output_dtype: 'int8', normalize: false }
    expect(await post('/v1/embeddings', body)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request' } },
    })
    expect(await post('/v1/embeddings', { ...body, output_dtype: 'binary' })).toMatchObject({ status: 200 })
  })

  it('puts an instruction into the prompt that has room for one', async () => {
    const given = await embed('the cat', { instruction: 'find the dog' })
    expect(given).toEqual(await embed('Instruct: find the dog\nQuery:the cat'))
    const answer = await post('/v1/embeddings', { input: 'the cat', instruction: 'find the dog' })
    expect(answer.body).toMatchObject({ data: [{ embedding: given }] })
    expect(
      await post('/v1/embeddings', { input: 'a', instruction: 'x', prompt_name: 'document' }),
    ).toMatchObject({
      status: 400,
      body: { error: { code: 'instruction_not_supported', param: 'instruction' } },
    })
  })
})

describe('Cohere', () => {
  it('answers each type asked for, in shape', async () => {
    const types = ['float', 'int8', 'uint8', 'binary', 'ubinary', 'base64']
    const texts = ['the cat', 'a dog']
    const { status, body } = await post('/v2/embed', {
      model: 'm',
      texts,
      input_type: 'search_document',
      embedding_types: types,
    })
    expect(status).toBe(200)
    const answer = body as { id: string; embeddings: Record<string, (number[] | string)[]> }
    expect(answer).toMatchObject({
      texts,
      meta: { api_version: { version: '2' }, billed_units: { input_tokens: 14 } },
      response_type: 'embeddings_by_type',
    })
    expect(answer.id).toMatch(/^[0-9a-f-]{36}$/)
    expect(Object.keys(answer.embeddings)).toEqual(types)
    expect(answer.embeddings['float']![0]).toEqual(await embed('the cat', { prompt_name: 'document' }))
    const vector = Float32Array.from(answer.embeddings['float']![1] as number[])
    for (const type of ['int8', 'uint8', 'binary', 'ubinary'] as const) {
      expect(answer.embeddings[type]![1]).toEqual([...quantizeVector(vector, type)])
    }
    expect(answer.embeddings['base64']![1]).toBe(Buffer.from(vector.buffer).toString('base64'))
  })

  it("takes the model's prompt for the input type, none where it has none", async () => {
    const ask = async (input_type: string): Promise<unknown> =>
      ((await post('/v2/embed', { texts: ['cat'], input_type })).body as { embeddings: { float: unknown[] } })
        .embeddings.float[0]
    expect(await ask('search_query')).toEqual(await embed('cat', { prompt_name: 'query' }))
    expect(await ask('classification')).toEqual(await embed('cat', { prompt_name: 'classification' }))
    expect(await ask('clustering')).toEqual(await embed('cat'))
  })

  it('cuts or refuses long texts, and cuts vectors', async () => {
    const ask = (fields: object) => post('/v2/embed', { texts: [longText, 'a'], ...fields })
    expect((await ask({})).headers).toMatchObject({
      'x-truncated-inputs': '1',
      'x-truncation-direction': 'right',
    })
    expect((await ask({ truncate: 'START' })).headers).toMatchObject({ 'x-truncation-direction': 'left' })
    expect(await ask({ truncate: 'NONE' })).toMatchObject({
      status: 400,
      body: { code: 'INPUT_TOO_LONG', message: expect.stringMatching(/^input 0 has \d+ tokens/) as string },
    })
    const { body } = await ask({ output_dimension: 8 })
    expect((body as { embeddings: { float: number[][] } }).embeddings.float.map((v) => v.length)).toEqual([
      8, 8,
    ])
  })

  it('answers a bare list in version 1', async () => {
    const { body } = await post('/v1/embed', { texts: ['cat'] })
    expect(body).toMatchObject({ embeddings: [await embed('cat')], response_type: 'embeddings_floats' })
    const typed = await post('/v1/embed', { texts: ['cat'], embedding_types: ['int8'] })
    expect(typed.body).toMatchObject({ response_type: 'embeddings_by_type' })
  })

  it.each([
    [{}, "'texts' is missing"],
    [{ texts: 'a' }, `'texts' is "a"`],
    [{ images: ['data:image/png;base64,x'] }, 'images are not taken'],
    [{ texts: ['a'], embedding_types: ['int4'] }, `'embedding_types[0]' is "int4"`],
    [{ texts: ['a'], input_type: 'image' }, `'input_type' is "image"`],
    [{ texts: ['a'], images: ['data:image/png;base64,x'] }, `'images' takes nothing here`],
    [{ texts: ['a'], inputs: [] }, `'inputs' takes nothing here`],
    [{ texts: ['a'], max_tokens: 5 }, `'max_tokens' is 5`],
    [{ texts: [] }, 'the list of inputs is empty'],
  ])('refuses %j with a message', async (payload, message) => {
    const { status, body } = await post('/v2/embed', payload)
    expect(status).toBe(400)
    expect((body as { message: string }).message).toContain(message)
  })
})

describe('Ollama', () => {
  it('embeds a text and a list', async () => {
    const { status, body } = await post('/api/embed', { model: 'tiny-bert', input: ['the cat', 'a dog'] })
    expect(status).toBe(200)
    expect(body).toEqual({
      model: 'tiny-bert',
      embeddings: [await embed('the cat'), await embed('a dog')],
      total_duration: expect.any(Number) as number,
      load_duration: 0,
      prompt_eval_count: 8,
    })
    expect((body as { total_duration: number }).total_duration).toBeGreaterThan(10_000)
    const one = await post('/api/embed', { model: 'tiny-bert', input: 'the cat', dimensions: 4 })
    expect((one.body as { embeddings: number[][] }).embeddings.map((v) => v.length)).toEqual([4])
  })

  it('answers an empty list to a request that only loads the model', async () => {
    for (const payload of [{}, { input: '' }, { input: [] }, { input: null }]) {
      expect((await post('/api/embed', payload)).body).toMatchObject({ embeddings: [], prompt_eval_count: 0 })
    }
    expect((await post('/api/embeddings', { prompt: '' })).body).toEqual({ embedding: [] })
  })

  it('gives the raw vector on the legacy route', async () => {
    const { body } = await post('/api/embeddings', { model: 'm', prompt: 'the cat', keep_alive: '5m' })
    expect(body).toEqual({ embedding: await embed('the cat', { normalize: false }) })
  })

  it('cuts long texts unless truncate is false', async () => {
    expect((await post('/api/embed', { input: longText })).headers['x-truncated-inputs']).toBe('1')
    expect(await post('/api/embed', { input: longText, truncate: false })).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining('the model takes 64') as string, code: 'INPUT_TOO_LONG' },
    })
  })

  it('takes what curl -d sends without a content type, still only JSON', async () => {
    const ask = (payload: string, contentType?: string) =>
      tiny.server.app.inject({
        method: 'POST',
        url: '/api/embed',
        payload,
        headers: contentType === undefined ? {} : { 'content-type': contentType },
      })
    const form = await ask('{"input": "cat"}', 'application/x-www-form-urlencoded')
    expect(form.statusCode).toBe(200)
    const bad = await ask('input=cat', 'application/x-www-form-urlencoded')
    expect([bad.statusCode, bad.json()]).toMatchObject([400, { code: 'INVALID_JSON' }])
    expect((await ask('{"input": "cat"}')).statusCode).toBe(200)
    expect((await ask('{"input": "cat"}', 'application/json; charset=utf-8')).statusCode).toBe(200)
    for (const type of ['text/plain', 'multipart/form-data; boundary=x', 'application/jsonx']) {
      const refused = await ask('{"input": "cat"}', type)
      expect([refused.statusCode, refused.json()]).toMatchObject([415, { code: 'UNSUPPORTED_MEDIA_TYPE' }])
    }
  })

  it('takes no form of a page of another origin, which no browser would have to ask for', async () => {
    const ask = (type: string) =>
      tiny.server.app.inject({
        method: 'POST',
        url: '/api/embed',
        payload: '{"input": "cat"}',
        headers: { 'content-type': type, origin: 'https://evil.example' },
      })
    expect((await ask('application/x-www-form-urlencoded')).statusCode).toBe(415)
    // A browser sends this one only when a preflight allowed it.
    expect((await ask('application/json')).statusCode).toBe(200)
  })

  it('lists and shows the served model', async () => {
    const details = { format: 'onnx', family: 'bert', families: ['bert'], quantization_level: 'FP32' }
    expect((await get('/api/tags')).body).toMatchObject({
      models: [{ name: 'tiny-bert', model: 'tiny-bert', details }],
    })
    expect((await post('/api/show', { model: 'tiny-bert' })).body).toMatchObject({
      details,
      model_info: { 'general.architecture': 'bert', 'bert.context_length': 64, 'bert.embedding_length': 32 },
      capabilities: ['embedding'],
    })
    expect((await get('/api/version')).body).toMatchObject({
      version: expect.stringMatching(/^\d+\./) as string,
    })
    expect(await get('/api/ps')).toMatchObject({ status: 404, body: { error: expect.any(String) as string } })
  })
})

describe('strict model', () => {
  it('holds in every dialect that names a model', async () => {
    await using strict = await startTinyServer({ strictModel: true, servedModelName: 'mine' })
    for (const [url, body, error] of [
      ['/v1/embeddings', { input: 'a' }, { error: { code: 'model_not_found' } }],
      [
        '/v2/embed',
        { texts: ['a'] },
        { code: 'SERVED_MODEL_UNKNOWN', message: expect.any(String) as string },
      ],
      ['/api/embed', { input: 'a' }, { code: 'SERVED_MODEL_UNKNOWN', error: expect.any(String) as string }],
    ] as const) {
      const refused = await post(url, { model: 'other', ...body }, {}, strict)
      expect([refused.status, refused.body], url).toMatchObject([404, error])
      expect((await post(url, { model: 'mine', ...body }, {}, strict)).status, url).toBe(200)
    }
    expect((await post('/api/embed', { model: 'mine:latest', input: 'a' }, {}, strict)).status).toBe(200)
  })
})

describe('headers that every dialect has', () => {
  const requests = [
    ['/embed', { inputs: 'the cat 🙂' }],
    ['/v1/embeddings', { input: 'the cat 🙂' }],
    ['/v2/embed', { texts: ['the cat 🙂'] }],
    ['/api/embed', { input: 'the cat 🙂' }],
  ] as const

  it.each(requests)('%s tells its times and counts characters as people do', async (url, body) => {
    const { status, headers } = await post(url, body, {
      'x-priority': 'high',
      'x-request-timeout-ms': '60000',
    })
    expect(status).toBe(200)
    expect(headers).toMatchObject({ 'x-compute-characters': '9', 'x-compute-tokens': '5' })
    for (const name of ['compute', 'total', 'tokenization', 'queue', 'inference']) {
      expect(headers[`x-${name}-time`], name).toMatch(/^\d+$/)
    }
  })

  it.each(requests)('%s refuses headers that it cannot read with 400 and the value', async (url, body) => {
    for (const value of ['0', '-5', '1.5', '1e3', 'soon', '']) {
      const { status, body: refusal } = await post(url, body, { 'x-request-timeout-ms': value })
      expect(status, value).toBe(400)
      expect(JSON.stringify(refusal)).toContain(`x-request-timeout-ms is '${value}'`)
    }
    expect(await post(url, body, { 'x-priority': 'urgent' })).toMatchObject({ status: 400 })
  })

  it('ends a request after its own timeout, never after the configured one', async () => {
    const inputs = Array.from({ length: 2000 }, () => longText)
    await using slow = await startTinyServer({ requestTimeoutMs: 5 })
    const late = { status: 504, body: { code: 'REQUEST_TIMEOUT', error_type: 'Overloaded' } }
    expect(await post('/embed', { inputs }, { 'x-request-timeout-ms': '5' })).toMatchObject(late)
    expect(await post('/embed', { inputs }, { 'x-request-timeout-ms': '60000' }, slow)).toMatchObject(late)
  })
})
