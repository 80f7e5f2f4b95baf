/** Whatever a body holds, every route answers 2xx or a refusal with a code, and the server lives. */
import {
  type Arbitrary,
  array,
  assert,
  asyncProperty,
  constant,
  constantFrom,
  dictionary,
  double,
  integer,
  jsonValue,
  oneof,
  option,
  string,
  tuple,
} from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { errorCodes } from '../../src/errors.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

let tiny: TinyServer
beforeAll(async () => {
  const prompts = { query: 'Instruct: find it\nQuery:', document: '' }
  tiny = await startTinyServer({ maxBodyBytes: 2_000_000, maxInputs: 40 }, {}, { prompts })
})
afterAll(() => tiny[Symbol.asyncDispose]())

/** A body that each route takes. */
const goodBodies: Readonly<Record<string, object>> = {
  '/embed': { inputs: 'the cat' },
  '/': { inputs: ['the cat', 'a dog'] },
  '/invocations': { inputs: [[1, 2], 'a'] },
  '/embed_all': { inputs: 'the cat' },
  '/similarity': { inputs: { source_sentence: 'a', sentences: ['b', 'c'] }, parameters: {} },
  '/vertex': { instances: [{ inputs: 'a' }, { inputs: ['b'] }] },
  '/tokenize': { inputs: 'the cat' },
  '/decode': { ids: [1, 2, 3] },
  '/rerank': { query: 'a', texts: ['b'] },
  '/predict': { inputs: 'a' },
  '/embed_sparse': { inputs: 'a' },
  '/v1/embeddings': { input: 'the cat' },
  '/embeddings': { input: [1, 2, 3] },
  '/v1/embed': { texts: ['a'] },
  '/v2/embed': { texts: ['a', 'b'] },
  '/api/embed': { input: 'a' },
  '/api/embeddings': { prompt: 'a' },
  '/api/show': {},
}

const fieldNames = (
  'inputs input texts text prompt instances ids query sentences source_sentence parameters model name dimensions ' +
  'output_dimension encoding_format output_dtype embedding_types truncate truncation_direction prompt_name ' +
  'instruction normalize input_type add_special_tokens skip_special_tokens user constructor hasOwnProperty 1'
).split(' ')

const text = oneof(
  string({ maxLength: 40 }),
  string({ unit: 'binary', maxLength: 40 }),
  constant('the cat '.repeat(100)),
)
const number = oneof(
  integer({ min: -3, max: 340 }),
  double(),
  constantFrom(0, -0, 2 ** 31, 2 ** 32, 2 ** 53, 1e308, -1e308, 5e-324),
)
const word = constantFrom(
  'float',
  'base64',
  'int8',
  'binary',
  'left',
  'Right',
  'START',
  'NONE',
  'query',
  'document',
)
const value: Arbitrary<unknown> = oneof(
  text,
  number,
  word,
  constantFrom(null, true, false, [], {}, [[]], [''], ['a', 5]),
  array(oneof(text, number, array(number, { maxLength: 5 })), { maxLength: 45 }),
  jsonValue({ maxDepth: 3 }),
)
const nested: Arbitrary<unknown> = oneof(
  value,
  dictionary(constantFrom(...fieldNames), value),
  array(value, { maxLength: 3 }),
)
const fields = dictionary(
  constantFrom(...fieldNames),
  oneof({ weight: 3, arbitrary: value }, { weight: 1, arbitrary: nested }),
)

/** Bodies that no JSON.stringify writes. */
const rawBody = constantFrom(
  '',
  'null',
  '{"inputs": "a"',
  '{"inputs": "a", "__proto__": {"polluted": true}}',
  '{"inputs": {"__proto__": {"polluted": true}}}',
  '{"input": "a", "constructor": {"prototype": {"polluted": true}}}',
  `{"inputs": ${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
  `{"inputs": ${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}}`,
  `{"input": [${'9'.repeat(400)}]}`,
  `{"inputs": [1e999, -1e999, 1e-999]}`,
  `{"texts": [${'null,'.repeat(100_000)}null]}`,
  `{"${'k'.repeat(100_000)}": 1}`,
  '{"inputs": "\\ud800 lone", "dimensions": 9007199254740993}',
  '{"inputs": "a", "inputs": ["b", "c"]}',
  `{"inputs": "${'x'.repeat(2_100_000)}"}`,
)

const contentType = constantFrom(
  'application/json',
  'application/json',
  'application/json; charset=utf-8',
  'text/plain',
)
const header = tuple(
  constantFrom('x-priority', 'x-request-timeout-ms'),
  constantFrom('high', '5000', '1e9', '-1'),
)
const request = tuple(
  constantFrom(...Object.keys(goodBodies)),
  contentType,
  option(header, { freq: 8 }),
).chain(([url, type, extra]) =>
  tuple(
    constant(url),
    oneof(
      fields.map((body) => JSON.stringify(body)),
      fields.map((body) => JSON.stringify({ ...body, ...goodBodies[url] })),
      tuple(constantFrom(...Object.keys(goodBodies[url]!), 'model'), nested).map(([name, wrong]) =>
        JSON.stringify({ ...goodBodies[url], [name]: wrong }),
      ),
      rawBody,
    ),
    constant({ 'content-type': type, ...(extra === null ? {} : { [extra[0]]: extra[1] }) }),
  ),
)

it('answers 2xx or a refusal with a code', { timeout: 60_000 }, async () => {
  const statuses = new Set<number>()
  await assert(
    asyncProperty(request, async ([url, payload, headers]) => {
      const answer = await tiny.server.app.inject({ method: 'POST', url, payload, headers })
      statuses.add(answer.statusCode)
      const what = `${url} ${payload.slice(0, 200)}: ${answer.body.slice(0, 200)}`
      if (answer.statusCode === 200) {
        expect(answer.headers['content-type'], what).toMatch(/^application\/json/)
        JSON.parse(answer.body)
        return
      }
      expect(answer.statusCode, what).toBeGreaterThanOrEqual(400)
      expect(answer.statusCode, what).toBeLessThan(500)
      expect(errorCodes, what).toContain(codeOf(answer.json()))
      // A refusal never sends the body back.
      expect(answer.body.length, what).toBeLessThan(2000)
    }),
    { numRuns: 600, seed: 4 },
  )
  for (const status of [200, 400, 413, 415, 422, 424]) expect(statuses).toContain(status)
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  const alive = await tiny.server.app.inject({ method: 'POST', url: '/embed', payload: { inputs: 'a' } })
  expect(alive.statusCode).toBe(200)
  expect(tiny.pipeline.queueState.requests).toBe(0)
})

/** The code, wherever the dialect has it. */
function codeOf(body: unknown): string {
  const { code, error } = body as { code?: string; error?: { code: string } }
  const found = code ?? error!.code
  return found === 'model_not_found' ? 'SERVED_MODEL_UNKNOWN' : found.toUpperCase()
}
