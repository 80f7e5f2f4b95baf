/** The clients that people have already, unchanged, against a running server: their vectors are those of the plain HTTP
 * answer, lists keep their order, options arrive, and a refusal comes out as each client tells one. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { OpenAIEmbeddings } from '@langchain/openai'
import { APICallError, embed, embedMany } from 'ai'
import { CohereClient, CohereClientV2, CohereError } from 'cohere-ai'
import { Ollama } from 'ollama'
import OpenAI, { BadRequestError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { quantizeVector } from '../../src/engines/quantize-vectors.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

const texts = ['the cat', 'a dog', 'the cat and the dog']
const model = 'tiny-bert'
const longText = 'the cat and the dog '.repeat(40)
let tiny: TinyServer
let url: string
let vectors: readonly Float32Array[]
beforeAll(async () => {
  tiny = await startTinyServer({}, {}, { prompts: { query: 'find: ' } })
  url = await tiny.server.listen()
  vectors = await plain(texts)
})
afterAll(() => tiny[Symbol.asyncDispose]())

/** What the server answers without any client. */
async function plain(inputs: readonly string[], fields: object = {}): Promise<Float32Array[]> {
  const response = await fetch(`${url}/embed`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs, ...fields }),
  })
  return ((await response.json()) as number[][]).map((vector) => Float32Array.from(vector))
}

/** Float32 is what was sent; a client may read its decimal text as a double. */
function toFloat32(list: readonly (readonly number[])[] | undefined): Float32Array[] {
  return (list ?? []).map((vector) => Float32Array.from(vector))
}

describe('openai', () => {
  const client = () => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })

  it('embeds a list, by default in base64, and in floats', async () => {
    for (const options of [{}, { encoding_format: 'float' as const }]) {
      const { data, usage } = await client().embeddings.create({ model, input: texts, ...options })
      expect(toFloat32(data.map((item) => item.embedding))).toEqual(vectors)
      expect(usage).toEqual({ prompt_tokens: 15, total_tokens: 15 })
    }
  })

  it('asks for dimensions and for fields that only this server has', async () => {
    const { data } = await client().embeddings.create({ model, input: texts, dimensions: 8 })
    expect(toFloat32(data.map((item) => item.embedding))).toEqual(await plain(texts, { dimensions: 8 }))
    const extended = { model, input: texts[0]!, encoding_format: 'float', output_dtype: 'int8' } as const
    const answer = await client().embeddings.create(extended)
    expect(answer.data[0]!.embedding).toEqual([...quantizeVector(vectors[0]!, 'int8')])
  })

  it('reads a refusal', async () => {
    const refusal = await client()
      .embeddings.create({ model, input: ['a', longText] })
      .catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(BadRequestError)
    expect(refusal).toMatchObject({
      status: 400,
      code: 'input_too_long',
      param: 'input',
      type: 'invalid_request_error',
      message: expect.stringContaining('input 1 has') as string,
    })
  })
})

describe('@langchain/openai', () => {
  const client = (fields: object = {}) =>
    new OpenAIEmbeddings({
      apiKey: 'none',
      model,
      configuration: { baseURL: `${url}/v1` },
      maxRetries: 0,
      ...fields,
    })

  it('embeds documents in batches of its own, and a query', async () => {
    expect(toFloat32(await client({ batchSize: 2 }).embedDocuments(texts))).toEqual(vectors)
    expect(toFloat32([await client().embedQuery(texts[0]!)])).toEqual([vectors[0]])
  })

  it('asks for dimensions and base64', async () => {
    const short = await plain(texts, { dimensions: 8 })
    const options = { dimensions: 8, encodingFormat: 'base64' }
    expect((await client(options).embedDocuments(texts)).map(fromBase64)).toEqual(short)
  })

  it('reads a refusal', async () => {
    await expect(client().embedQuery(longText)).rejects.toMatchObject({ status: 400, code: 'input_too_long' })
  })
})

describe('Vercel AI SDK', () => {
  const client = () =>
    createOpenAICompatible({ name: 'local', baseURL: `${url}/v1` }).textEmbeddingModel(model)

  it('embeds one value and many', async () => {
    const one = await embed({ model: client(), value: texts[0]! })
    expect(toFloat32([one.embedding])).toEqual([vectors[0]])
    expect(one.usage).toEqual({ tokens: 4 })
    const many = await embedMany({ model: client(), values: texts })
    expect(toFloat32(many.embeddings)).toEqual(vectors)
    expect(many.usage).toEqual({ tokens: 15 })
  })

  it('asks for dimensions', async () => {
    const { embeddings } = await embedMany({
      model: client(),
      values: texts,
      providerOptions: { local: { dimensions: 8 } },
    })
    expect(toFloat32(embeddings)).toEqual(await plain(texts, { dimensions: 8 }))
  })

  it('reads a refusal', async () => {
    const refusal = await embed({ model: client(), value: longText, maxRetries: 0 }).catch(
      (error: unknown) => error,
    )
    expect(APICallError.isInstance(refusal)).toBe(true)
    expect(refusal).toMatchObject({
      statusCode: 400,
      isRetryable: false,
      message: expect.stringContaining('input 0 has') as string,
    })
  })
})

describe('ollama', () => {
  const client = () => new Ollama({ host: url })

  it('embeds a list and a text, and one text the old way', async () => {
    const { embeddings, prompt_eval_count } = await client().embed({ model, input: texts })
    expect(toFloat32(embeddings)).toEqual(vectors)
    expect(prompt_eval_count).toBe(15)
    expect(toFloat32((await client().embed({ model, input: texts[1]! })).embeddings)).toEqual([vectors[1]])
    const { embedding } = await client().embeddings({ model, prompt: texts[0]! })
    expect(toFloat32([embedding])).toEqual(await plain(texts.slice(0, 1), { normalize: false }))
  })

  it('asks for dimensions and keep_alive', async () => {
    const { embeddings } = await client().embed({ model, input: texts, dimensions: 8, keep_alive: '5m' })
    expect(toFloat32(embeddings)).toEqual(await plain(texts, { dimensions: 8 }))
  })

  it('lists and shows the model and the version', async () => {
    expect((await client().list()).models.map((one) => one.name)).toEqual([model])
    expect((await client().show({ model })).capabilities).toEqual(['embedding'])
    expect((await client().version()).version).toMatch(/^\d+\.\d+\.\d+/)
  })

  it('reads a refusal', async () => {
    await expect(client().embed({ model, input: longText, truncate: false })).rejects.toMatchObject({
      name: 'ResponseError',
      status_code: 400,
      error: expect.stringContaining('input 0 has') as string,
    })
    await expect(client().chat({ model })).rejects.toMatchObject({
      status_code: 404,
      error: expect.stringContaining('no route POST /api/chat') as string,
    })
  })
})

describe('cohere-ai', () => {
  const options = () => ({ token: 'none', environment: url })

  it('embeds a list in each type', async () => {
    const {
      embeddings,
      texts: echoed,
      meta,
    } = await new CohereClientV2(options()).embed({
      model,
      texts,
      inputType: 'search_document',
      embeddingTypes: ['float', 'int8', 'uint8', 'binary', 'ubinary', 'base64'],
    })
    expect(toFloat32(embeddings.float)).toEqual(vectors)
    for (const type of ['int8', 'uint8', 'binary', 'ubinary'] as const) {
      expect(embeddings[type]).toEqual(vectors.map((vector) => [...quantizeVector(vector, type)]))
    }
    expect(embeddings.base64!.map(fromBase64)).toEqual(vectors)
    expect([echoed, meta?.billedUnits?.inputTokens]).toEqual([texts, 15])
  })

  it("asks for dimensions and for the query's prompt", async () => {
    const { embeddings } = await new CohereClientV2(options()).embed({
      model,
      texts,
      inputType: 'search_query',
      outputDimension: 8,
    })
    expect(toFloat32(embeddings.float)).toEqual(await plain(texts, { dimensions: 8, prompt_name: 'query' }))
  })

  it('embeds through version 1', async () => {
    const answer = await new CohereClient(options()).embed({ model, texts })
    expect(answer.responseType).toBe('embeddings_floats')
    expect(toFloat32(answer.embeddings as number[][])).toEqual(vectors)
  })

  it('reads a refusal', async () => {
    const refusal = await new CohereClientV2(options())
      .embed({ model, texts: [longText], inputType: 'search_document', truncate: 'NONE' })
      .catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(CohereError)
    expect(refusal).toMatchObject({
      statusCode: 400,
      body: { message: expect.stringContaining('input 0 has') as string },
    })
  })
})

function fromBase64(text: unknown): Float32Array {
  return new Float32Array(new Uint8Array(Buffer.from(String(text), 'base64')).buffer)
}
