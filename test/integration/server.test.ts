import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cosine } from '../../src/engines/vectors.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

let tiny: TinyServer
let url: string
beforeAll(async () => {
  tiny = await startTinyServer({ maxBodyBytes: 100_000 })
  url = await tiny.server.listen()
})
afterAll(() => tiny[Symbol.asyncDispose]())

interface Answer {
  status: number
  headers: Headers
  body: unknown
}

async function post(path: string, body: unknown, contentType = 'application/json'): Promise<Answer> {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': contentType },
    body: typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
  })
  return { status: response.status, headers: response.headers, body: await response.json() }
}

const longText = 'the cat and the dog '.repeat(40)

describe('OpenAI dialect', () => {
  it('embeds a text, a list, token ids and lists of them, in order', async () => {
    const { status, body } = await post('/v1/embeddings', {
      model: 'anything',
      input: ['the cat', 'a dog', 'the cat'],
    })
    expect(status).toBe(200)
    const list = body as OpenAI.CreateEmbeddingResponse
    expect(list).toMatchObject({ object: 'list', model: 'tiny-bert' })
    expect(list.data.map((item) => [item.object, item.index])).toEqual([
      ['embedding', 0],
      ['embedding', 1],
      ['embedding', 2],
    ])
    const [first, second, third] = list.data.map((item) => Float32Array.from(item.embedding))
    expect(cosine(first!, third!)).toBeGreaterThan(0.999999)
    expect(cosine(first!, second!)).toBeLessThan(0.9999)
    expect(list.usage.total_tokens).toBe(list.usage.prompt_tokens)

    const one = (await post('/v1/embeddings', { input: 'the cat' })).body as OpenAI.CreateEmbeddingResponse
    expect(cosine(Float32Array.from(one.data[0]!.embedding), first!)).toBeGreaterThan(0.99999)
    const [tokenized] = await tiny.pipeline.tokenizer.encode(['the cat'], {
      maxTokens: 64,
      truncation: 'right',
    })
    const { ids } = tokenized!
    for (const input of [[...ids], [[...ids], [...ids]]]) {
      const answer = (await post('/v1/embeddings', { input })).body as OpenAI.CreateEmbeddingResponse
      expect(answer.data).toHaveLength(typeof input[0] === 'number' ? 1 : 2)
      expect(cosine(Float32Array.from(answer.data[0]!.embedding), first!)).toBeGreaterThan(0.99999)
    }
  })

  it('works with the official client unchanged, in float and in base64', async () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none' })
    const byDefault = await client.embeddings.create({ model: 'tiny-bert', input: ['the cat', 'a dog'] })
    const asFloat = await client.embeddings.create({
      model: 'tiny-bert',
      input: ['the cat', 'a dog'],
      encoding_format: 'float',
    })
    expect(byDefault.data).toHaveLength(2)
    expect(byDefault.data[0]!.embedding).toHaveLength(32)
    for (const i of [0, 1]) {
      expect(byDefault.data[i]!.embedding.map((value) => Math.fround(value))).toEqual(
        asFloat.data[i]!.embedding.map((value) => Math.fround(value)),
      )
    }
    const cut = await client.embeddings.create({ model: 'tiny-bert', input: 'the cat', dimensions: 8 })
    expect(Math.hypot(...cut.data[0]!.embedding)).toBeCloseTo(1, 5)
    await expect(client.embeddings.create({ model: 'tiny-bert', input: [] })).rejects.toMatchObject({
      status: 400,
      code: 'empty_input',
      param: 'input',
    })
    expect((await client.models.list()).data.map((model) => model.id)).toEqual(['tiny-bert'])
  })

  it('refuses a text that is too long unless it is asked to cut, and tells what was cut', async () => {
    const refused = await post('/v1/embeddings', { input: ['ok', longText] })
    expect(refused).toMatchObject({
      status: 400,
      body: { error: { code: 'input_too_long', param: 'input', type: 'invalid_request_error' } },
    })
    expect((refused.body as { error: { message: string } }).error.message).toMatch(
      /^input 1 has \d+ tokens, the model takes 64/,
    )
    const cut = await post('/v1/embeddings', { input: ['ok', longText], truncate: true })
    expect(cut.status).toBe(200)
    expect(cut.headers.get('x-truncated-inputs')).toBe('1')
    expect(Number(cut.headers.get('x-truncated-tokens'))).toBeGreaterThan(50)
  })

  it('takes a list of 2,048 and refuses one more', async () => {
    const { body } = await post('/v1/embeddings', {
      input: Array.from({ length: 2048 }, (_, i) => (i % 2 ? 'a' : 'the cat')),
      encoding_format: 'base64',
    })
    const { data } = body as { data: { embedding: string }[] }
    expect(data).toHaveLength(2048)
    expect(new Set(data.filter((_, i) => i % 2 === 1).map((item) => item.embedding.slice(0, 3))).size).toBe(1)
    const refused = await post('/v1/embeddings', { input: Array.from({ length: 2049 }, () => 'a') })
    expect(refused).toMatchObject({ status: 400, body: { error: { code: 'too_many_inputs' } } })
  })

  it.each([
    [{}, 400, 'invalid_request', "'input' is missing; give a text, a list of texts"],
    [{ input: 5 }, 400, 'invalid_request', "'input' is 5; 'input' takes a text"],
    [{ input: ['a', 5] }, 400, 'invalid_request', "'input[1]' is 5"],
    [{ input: null }, 400, 'invalid_request', "'input' is null"],
    [[1], 400, 'invalid_request', 'the body must be a JSON object'],
    [{ input: [] }, 400, 'empty_input', 'the list of inputs is empty'],
    [{ input: '' }, 400, 'empty_input', 'input 0 is empty'],
    [{ input: ['a', ''] }, 400, 'empty_input', 'input 1 is empty'],
    [{ input: [[]] }, 400, 'empty_input', 'input 0 is empty'],
    [{ input: [1, 999_999] }, 400, 'invalid_token_id', 'token id 999999'],
    [{ input: [[1, -1]] }, 400, 'invalid_token_id', 'token id -1'],
    [{ input: [1.5] }, 400, 'invalid_request', "'input[0]' is 1.5"],
    [
      { input: 'a', dimensions: 0 },
      400,
      'invalid_dimensions',
      'dimensions 0 is out of range; this model gives 1 to 32',
    ],
    [{ input: 'a', dimensions: 33 }, 400, 'invalid_dimensions', 'dimensions 33'],
    [
      { input: 'a', dimensions: 'x' },
      400,
      'invalid_request',
      `'dimensions' is "x"; 'dimensions' takes a whole number`,
    ],
    [{ input: 'a', encoding_format: 'int3' }, 400, 'invalid_request', "takes 'float' or 'base64'"],
    [{ input: 'a', prompt_name: 'nope' }, 400, 'unknown_prompt', "no prompt named 'nope'"],
    ['{"input": "a"', 400, 'invalid_json', 'not valid JSON'],
    ['', 400, 'invalid_json', 'not valid JSON'],
    ['{"__proto__": {"a": 1}, "input": "a"}', 400, 'invalid_json', 'not valid JSON'],
    [Buffer.from([0x7b, 0x22, 0x69, 0xff, 0xfe, 0x22, 0x7d]), 400, 'invalid_json', 'UTF-8'],
    [{ input: 'x'.repeat(100_001) }, 413, 'body_too_large', 'larger than 100000 bytes'],
  ])('refuses %j', async (body, status, code, message) => {
    const answer = await post('/v1/embeddings', body)
    expect(answer).toMatchObject({ status, body: { error: { code } } })
    expect((answer.body as { error: { message: string } }).error.message).toContain(message)
  })
})

describe('TEI dialect', () => {
  it('answers a list of vectors with the timings in headers', async () => {
    const { status, headers, body } = await post('/embed', { inputs: ['the cat', 'a dog'] })
    expect(status).toBe(200)
    const vectors = body as number[][]
    expect(vectors.map((vector) => [vector.length, Math.round(Math.hypot(...vector) * 1e5) / 1e5])).toEqual([
      [32, 1],
      [32, 1],
    ])
    for (const name of [
      'x-compute-time',
      'x-total-time',
      'x-tokenization-time',
      'x-queue-time',
      'x-inference-time',
    ]) {
      expect(headers.get(name), name).toMatch(/^\d+$/)
    }
    expect(headers.get('x-compute-characters')).toBe('12')
  })

  it('cuts long texts by default, from the side that is asked for', async () => {
    const [right] = (await post('/embed', { inputs: longText })).body as number[][]
    const [left] = (await post('/embed', { inputs: `dog ${longText}`, truncation_direction: 'Left' }))
      .body as number[][]
    expect(cosine(Float32Array.from(right!), Float32Array.from(left!))).toBeLessThan(0.99999)
    expect(await post('/embed', { inputs: longText, truncate: false })).toMatchObject({
      status: 422,
      body: { error_type: 'Validation', code: 'INPUT_TOO_LONG' },
    })
  })

  it('gives raw vectors with normalize false', async () => {
    const [raw] = (await post('/embed', { inputs: 'the cat', normalize: false })).body as number[][]
    const [unit] = (await post('/embed', { inputs: 'the cat' })).body as number[][]
    expect(Math.abs(Math.hypot(...raw!) - 1)).toBeGreaterThan(0.01)
    expect(cosine(Float32Array.from(raw!), Float32Array.from(unit!))).toBeGreaterThan(0.999999)
  })

  it.each([
    [{ inputs: [] }, 400, 'Empty'],
    [{ inputs: ['a', ''] }, 400, 'Empty'],
    [{ inputs: null }, 422, 'Validation'],
    [{ inputs: { text: 'a' } }, 422, 'Validation'],
    [{ inputs: 'a', dimensions: 0 }, 422, 'Validation'],
  ])('refuses %j as TEI does', async (body, status, type) => {
    expect(await post('/embed', body)).toMatchObject({ status, body: { error_type: type } })
  })

  it('tells of the model, the engine and the golden check in /info', async () => {
    const info = (await (await fetch(`${url}/info`)).json()) as { golden: { worst_cosine: number } }
    expect(info).toMatchObject({
      model_type: { embedding: { pooling: 'mean' } },
      max_input_length: 64,
      dimensions: 32,
      engine: { name: 'onnx', precision: 'fp32' },
      golden: { source: 'made' },
    })
    expect(info.golden.worst_cosine).toBeGreaterThan(0.9999)
  })
})

describe('server', () => {
  it('tells alive and ready', async () => {
    expect((await fetch(`${url}/livez`)).status).toBe(200)
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    expect((await fetch(`${url}/health`)).status).toBe(200)
  })

  it('names the way out for unknown routes, wrong methods and wrong types', async () => {
    const unknown = await fetch(`${url}/nope`)
    expect([unknown.status, await unknown.json()]).toMatchObject([
      404,
      { error: { code: 'route_not_found' } },
    ])
    const wrong = await fetch(`${url}/embed`)
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'POST'])
    expect((await post('/embed', '<a/>', 'application/xml')).status).toBe(415)
  })

  it('describes itself at /docs', async () => {
    const page = await fetch(`${url}/docs/json`)
    const api = (await page.json()) as { paths: Record<string, unknown> }
    expect(Object.keys(api.paths)).toEqual(
      expect.arrayContaining(['/v1/embeddings', '/embed', '/info', '/readyz']),
    )
    expect((await fetch(`${url}/docs`)).status).toBe(200)
  })

  it('forgets a request whose client has gone and answers the next', async () => {
    const { port } = tiny.server.app.server.address() as AddressInfo
    const body = JSON.stringify({ inputs: Array.from({ length: 2000 }, () => 'the cat and the dog') })
    await new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.write(
          `POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
        )
        setTimeout(() => socket.destroy(), 20)
      })
      socket.on('close', () => resolve())
    })
    await expect.poll(() => tiny.pipeline.queueState.requests, { timeout: 5000 }).toBe(0)
    expect((await post('/embed', { inputs: 'a' })).status).toBe(200)
  })
})

describe('strict model', () => {
  it('answers 404 model_not_found for another name and serves its own', async () => {
    await using strict = await startTinyServer({ strictModel: true, servedModelName: 'mine' })
    const ask = (model: string) =>
      strict.server.app.inject({ method: 'POST', url: '/v1/embeddings', payload: { model, input: 'a' } })
    const refused = await ask('gpt-9')
    expect([refused.statusCode, refused.json()]).toMatchObject([
      404,
      { error: { code: 'model_not_found', param: 'model' } },
    ])
    expect((await ask('mine')).statusCode).toBe(200)
  })
})

describe('overload', () => {
  it('refuses whole with 429 and Retry-After, and 413 for what can never fit', async () => {
    await using small = await startTinyServer({ maxQueuedTokens: 64, maxQueuedRequests: 1 })
    const ask = (inputs: unknown) =>
      small.server.app.inject({ method: 'POST', url: '/embed', payload: { inputs } })
    expect((await ask(Array.from({ length: 65 }, () => 'a'))).statusCode).toBe(413)
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(['the cat', 'a dog'])))
    const codes = answers.map((answer) => answer.statusCode)
    expect(codes).toContain(200)
    expect(codes).toContain(429)
    const refused = answers.find((answer) => answer.statusCode === 429)!
    expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(1)
    expect(refused.json()).toMatchObject({ error_type: 'Overloaded', code: 'QUEUE_FULL' })
  })
})

describe('stopping', () => {
  it('is not ready, answers what it accepted, and frees the port', async () => {
    const stopping = await startTinyServer()
    const address = await stopping.server.listen()
    const { port } = stopping.server.app.server.address() as AddressInfo
    const accepted = fetch(`${address}/embed`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs: Array.from({ length: 2000 }, () => 'the cat and the dog') }),
    })
    await expect.poll(() => stopping.pipeline.queueState.requests, { interval: 1 }).toBe(1)
    const closed = stopping.server.close()
    expect((await accepted).status).toBe(200)
    await closed
    await stopping[Symbol.asyncDispose]()
    await using next = await startTinyServer({ port })
    expect(await next.server.listen()).toBe(address)
  })

  it('names the port that is in use', async () => {
    const { port } = tiny.server.app.server.address() as AddressInfo
    await using second = await startTinyServer({ port })
    await expect(second.server.listen()).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: expect.stringContaining(String(port)) as string,
    })
  })
})
