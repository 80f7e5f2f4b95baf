/** Every recorded request of text-embeddings-inference 1.9.3 (test/fixtures/make-tei-cases.mjs) against a running server
 * with the same model: TEI's status and shape, or an answer that docs/from-tei.md lists as ours, with its reason. */
import { readFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ConfigValues } from '../../src/config/load.ts'
import { cacheDir, hasRealModel, realModel } from '../fixtures/real-model.ts'
import { type RunningServer, startServer } from '../fixtures/start-tiny-server.ts'
import { type TeiCase, differences, toBytes } from '../fixtures/tei-case.ts'

const cases = JSON.parse(
  readFileSync(new URL('../fixtures/tei-cases.json', import.meta.url), 'utf8'),
) as readonly TeiCase[]
const page = readFileSync(new URL('../../docs/from-tei.md', import.meta.url), 'utf8').replaceAll(/\s+/g, ' ')

/** TEI's flags in the recording, and ours for the same. */
const flagsOfServer: Readonly<Record<string, ConfigValues>> = {
  'default flags': {},
  '--auto-truncate false --max-client-batch-size 4 --payload-limit 4000': {
    truncation: 'none',
    maxInputs: 4,
    maxBodyBytes: 4000,
  },
  '--api-key k1': { apiKey: 'k1' },
  '--max-concurrent-requests 2': { maxQueuedRequests: 2 },
}

const errorBody = { error: '<text>', error_type: '<text>', code: '<text>' }
const openaiError = { error: { message: '<text>', type: '<text>', param: '<any>', code: '<text>' } }
const openaiVectors = {
  object: 'list',
  data: '<any>',
  model: 'all-MiniLM-L6-v2',
  usage: { prompt_tokens: '<number>', total_tokens: '<number>' },
}

/** What we answer otherwise, and why: each reason stands in docs/from-tei.md word for word. */
const better: readonly {
  readonly ids: readonly string[]
  readonly status?: number
  readonly body: unknown
  readonly reason: string
}[] = [
  {
    ids: ['unknown-route', 'wrong-method', 'wrong-method-health-post', 'key-unknown-route-none'],
    body: openaiError,
    reason: 'a path that does not exist and a wrong method say so in JSON, TEI sends no body',
  },
  {
    ids: ['key-none', 'key-bad'],
    body: errorBody,
    reason: 'a missing or wrong key is told in JSON, TEI sends no body',
  },
  {
    ids: ['options-cors'],
    status: 405,
    body: openaiError,
    reason: 'no page of another origin may call the server unless `corsOrigins` allows it, TEI allows all',
  },
  {
    ids: [
      'embed-null',
      'embed-number',
      'embed-object',
      'embed-list-of-list-of-strings',
      'embed-bad-json',
      'embed-array-body',
      'embed-no-content-type',
      'embed-invalid-utf8',
      'embed-gzip-body',
      'tokenize-wrong-type',
    ],
    body: errorBody,
    reason:
      'a body that cannot be read is refused in JSON that names the field and the value, TEI writes plain text',
  },
  {
    ids: ['embed-dup-key'],
    status: 200,
    body: [{ vector: 384 }],
    reason: 'of a key given twice the last counts, as in every JavaScript program; TEI refuses it',
  },
  {
    ids: ['embed-token-out-of-vocab'],
    status: 422,
    body: errorBody,
    reason: 'a token id outside the vocabulary is refused, TEI drops it and embeds the rest',
  },
  {
    ids: ['embed-payload-3MB'],
    status: 422,
    body: errorBody,
    reason:
      'bodies up to 32 MiB are taken (`maxBodyBytes`); one text of more than 2,000,000 characters is refused as too long',
  },
  {
    ids: ['oai-batch-33'],
    status: 200,
    body: openaiVectors,
    reason: 'lists up to 2,048 inputs are taken, as OpenAI does (`maxInputs`)',
  },
  {
    ids: ['oai-too-long'],
    status: 400,
    body: openaiError,
    reason:
      "on OpenAI's routes a text that is too long is refused, as OpenAI does; `truncation: right` cuts it",
  },
  {
    ids: ['oai-empty-list', 'oai-missing-input', 'oai-bad-json', 'noauto-oai-long'],
    status: 400,
    body: openaiError,
    reason: "refusals on OpenAI's routes have OpenAI's status and shape, which its clients read",
  },
  {
    ids: ['overload-batch-3-over-limit-2'],
    status: 200,
    body: [{ vector: 384 }, { vector: 384 }, { vector: 384 }],
    reason:
      '`maxQueuedRequests` counts requests, so that a list never is refused for its length; TEI counts its inputs',
  },
]

describe.skipIf(!hasRealModel)('the recorded cases of text-embeddings-inference', () => {
  const servers = new Map<string, RunningServer>()
  const urls = new Map<string, string>()
  beforeAll(async () => {
    for (const [server, flags] of Object.entries(flagsOfServer)) {
      const running = await startServer(
        { model: realModel, servedModelName: 'all-MiniLM-L6-v2', ...flags },
        cacheDir,
      )
      servers.set(server, running)
      urls.set(server, await running.server.listen())
    }
  })
  afterAll(async () => {
    for (const running of servers.values()) await running[Symbol.asyncDispose]()
  })

  it('are all there, and every difference has a case', () => {
    expect(cases).toHaveLength(79)
    const ids = new Set(cases.map((one) => one.id))
    expect(better.flatMap((one) => one.ids).filter((id) => !ids.has(id))).toEqual([])
  })

  it.each(cases)('$id', async ({ id, server, request, ...recorded }) => {
    const answer = await send(urls.get(server)!, request)
    const ours = better.find((one) => one.ids.includes(id))
    expect(answer.status).toBe(ours?.status ?? recorded.status)
    expect(differences(ours === undefined ? recorded.body : ours.body, answer.body)).toEqual([])
    if (ours !== undefined) {
      expect(page).toContain(ours.reason)
      return
    }
    for (const [name, value] of Object.entries(recorded.headers)) {
      const actual = answer.headers[name]
      // TEI says gpu+optimized on every device.
      if (name === 'x-compute-type') expect(actual).toBe('cpu')
      else if (value === '<ms int>') expect(actual, name).toMatch(/^\d+$/)
      else if (name === 'content-type') expect(actual).toMatch(/^application\/json(; charset=utf-8)?$/)
      else expect(actual?.replaceAll(' ', ''), name).toBe(value)
    }
  })

  it('tells the limits of its configuration in /info', async () => {
    const info = cases.find((one) => one.id === 'noauto-info')!
    const { body } = await send(urls.get(info.server)!, info.request)
    expect(body).toMatchObject({ max_client_batch_size: 4, auto_truncate: false })
  })
})

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: unknown
}

/** No fetch: it adds headers of its own, such as a content type. */
function send(url: string, { method, path, headers, body }: TeiCase['request']): Promise<Answer> {
  const bytes = toBytes(body)
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      url + path,
      { method, headers: { ...headers, 'content-length': bytes.length } },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          const isJson = response.headers['content-type']?.startsWith('application/json') === true
          resolve({
            status: response.statusCode!,
            headers: response.headers as Answer['headers'],
            body: isJson && text !== '' ? JSON.parse(text) : text,
          })
        })
        response.on('error', reject)
      },
    )
    request.on('error', reject)
    request.end(bytes)
  })
}
