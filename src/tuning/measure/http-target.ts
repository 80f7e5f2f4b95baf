/** A server that speaks TEI's or OpenAI's dialect. */
import http from 'node:http'
import https from 'node:https'
import { EmbedError, toReason } from '../../errors.ts'
import type { LoadTarget, TargetCounters } from './target.ts'

type ToBody = (texts: readonly string[]) => string

const toOpenaiBody: ToBody = (texts) => JSON.stringify({ model: 'm', input: texts, encoding_format: 'float' })
/** Where vectors are asked for, and how. The first that answers 200 is taken. */
const dialects: readonly { path: string; toBody: ToBody }[] = [
  { path: '/embed', toBody: (texts) => JSON.stringify({ inputs: texts, truncate: true }) },
  { path: '/v1/embeddings', toBody: toOpenaiBody },
  { path: '/embeddings', toBody: toOpenaiBody },
]

export interface HttpTargetOptions {
  /** Default: the URL's host. */
  readonly name?: string | undefined
  readonly apiKey?: string | undefined
  /** Name of the model for OpenAI's dialect, where the server looks at it. */
  readonly model?: string | undefined
}

/** Asks the server once how it wants to be asked.
 * @param url its base, or the whole address of its embedding route
 * @throws {EmbedError} TARGET_FAILED */
export async function createHttpTarget(url: string, options: HttpTargetOptions = {}): Promise<LoadTarget> {
  const base = parseUrl(url)
  const { protocol, host, pathname } = base
  const client = protocol === 'https:' ? https : http
  // Latency is measured: no delayed packets, and as many connections as there are requests under way.
  const agent = new client.Agent({ keepAlive: true, maxSockets: Infinity, noDelay: true })
  const name = options.name ?? host
  const headers = {
    'content-type': 'application/json',
    ...(options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` }),
  }
  const ask = (path: string, body?: string): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const method = body === undefined ? 'GET' : 'POST'
      const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
      const request = client.request(new URL(path, base), {
        agent,
        method,
        headers: { ...headers, ...length },
      })
      request.on('error', reject)
      request.on('response', (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
        )
      })
      request.end(body)
    })

  const isWhole = dialects.some(({ path }) => pathname.endsWith(path))
  const prefix = pathname.replace(/\/$/, '')
  const candidates = isWhole
    ? [{ path: pathname, toBody: dialects.findLast(({ path }) => pathname.endsWith(path))!.toBody }]
    : dialects.map(({ path, toBody }) => ({ path: prefix + path, toBody }))
  const answers: string[] = []
  for (const { path, toBody } of candidates) {
    const withModel: ToBody = (texts) =>
      options.model === undefined || toBody !== toOpenaiBody
        ? toBody(texts)
        : JSON.stringify({ ...(JSON.parse(toBody(texts)) as object), model: options.model })
    const { status, text } = await ask(path, withModel(['ready?'])).catch((error: unknown) => ({
      status: 0,
      text: toReason(error) || 'no connection',
    }))
    answers.push(`${path}: ${status === 0 ? '' : `${status} `}${text.slice(0, 120)}`)
    if (status !== 200) continue
    return {
      name,
      async send({ texts }) {
        const answer = await ask(path, withModel(texts))
        if (answer.status === 200) return
        throw new EmbedError('TARGET_FAILED', {
          target: name,
          reason: `${path} answered ${answer.status} ${answer.text.slice(0, 200)}`,
        })
      },
      readCounters: async () => {
        const answer = await ask(`${isWhole ? '' : prefix}/metrics`).catch(() => undefined)
        return readExposition(answer?.status === 200 ? answer.text : '')
      },
      [Symbol.asyncDispose]() {
        agent.destroy()
        return Promise.resolve()
      },
    }
  }
  agent.destroy()
  throw new EmbedError('TARGET_FAILED', { target: name, reason: answers.join('; ') })
}

function parseUrl(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed !== undefined && ['http:', 'https:'].includes(parsed.protocol)) return parsed
  throw new EmbedError('TARGET_FAILED', { target: url, reason: 'it is no http or https URL' })
}

/** Of Prometheus' text format: our names, TEI's where ours are not there. */
export function readExposition(text: string): TargetCounters {
  const read = (name: string): number | undefined => {
    const sample = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)
    return sample === null ? undefined : Number(sample[1])
  }
  return {
    batches: read('embed_batch_size_count') ?? read('te_batch_next_size_count'),
    inputs: read('embed_batch_size_sum') ?? read('te_batch_next_size_sum'),
    paddingRatioSum: read('embed_batch_padding_ratio_sum'),
    cpuSeconds: read('process_cpu_seconds_total'),
    rssBytes: read('process_resident_memory_bytes'),
  }
}
