/** What the dialects share: from the fields of a body and the headers to one call of the pipeline. */
import { setMaxListeners } from 'node:events'
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyReply } from 'fastify'
import { EmbedError } from '../../errors.ts'
import type { EmbeddingInput, EmbedRequest, EmbedResponse } from '../pipeline/embedding-pipeline.ts'
import type { Truncation } from '../tokenizer/tokenizer.ts'
import type { ServerContext } from './context.ts'

export interface DialectRequest {
  readonly inputs: readonly EmbeddingInput[]
  readonly promptName?: string | null | undefined
  readonly instruction?: string | null | undefined
  readonly truncate?: boolean | null | undefined
  readonly truncationDirection?: string | null | undefined
  /** What the dialect does when neither the request nor the configuration says. */
  readonly dialectTruncation: Truncation
  readonly normalize?: boolean | null | undefined
  readonly dimensions?: number | null | undefined
  readonly output?: 'pooled' | 'tokens'
}

/** Runs the request and sets the headers that every dialect has; a client that leaves cancels it. */
export async function embedForRequest(
  context: ServerContext,
  reply: FastifyReply,
  request: DialectRequest,
): Promise<EmbedResponse> {
  const startMs = performance.now()
  const result = await whileConnected(reply, (signal) => embed(context, reply, request, signal))
  reply.headers(timingHeaders(context, request.inputs, result, performance.now() - startMs))
  tellTruncation(context, reply, [request], [result])
  return result
}

/** Several requests in one body, each with its own fields; the first that fails fails all. No times are told. */
export async function embedAllForRequest(
  context: ServerContext,
  reply: FastifyReply,
  requests: readonly DialectRequest[],
): Promise<EmbedResponse[]> {
  refuseTooMany(requests.length, context.config.maxInputs)
  const results = await whileConnected(reply, (signal) => {
    // One listener for each; Node's warning comes at eleven.
    setMaxListeners(0, signal)
    return Promise.all(requests.map((request) => embed(context, reply, request, signal)))
  })
  tellTruncation(context, reply, requests, results)
  return results
}

/** @throws {EmbedError} SERVED_MODEL_UNKNOWN with `strictModel` and another name than the served one */
export function checkModel({ config, modelName }: ServerContext, model: string | null | undefined): void {
  if (config.strictModel && model != null && model !== modelName) {
    throw new EmbedError('SERVED_MODEL_UNKNOWN', { model, served: modelName })
  }
}

/** @throws {EmbedError} TOO_MANY_INPUTS */
export function refuseTooMany(inputs: number, maxInputs: number): void {
  if (inputs > maxInputs) throw new EmbedError('TOO_MANY_INPUTS', { inputs, maxInputs })
}

async function embed(
  { config, pipeline }: ServerContext,
  reply: FastifyReply,
  request: DialectRequest,
  signal: AbortSignal,
): Promise<EmbedResponse> {
  refuseTooMany(request.inputs.length, config.maxInputs)
  return pipeline.embed({
    inputs: request.inputs,
    promptName: request.promptName ?? undefined,
    instruction: request.instruction ?? undefined,
    truncation: chooseTruncation(request, config.truncation),
    normalize: request.normalize ?? undefined,
    dimensions: request.dimensions ?? undefined,
    output: request.output ?? 'pooled',
    timeoutMs: readTimeoutMs(reply.request.headers, config.requestTimeoutMs),
    priority: readPriority(reply.request.headers),
    signal,
    origin: reply.request,
  })
}

/** How much was cut from all inputs together, and from which side. */
function tellTruncation(
  { config }: ServerContext,
  reply: FastifyReply,
  requests: readonly DialectRequest[],
  results: readonly EmbedResponse[],
): void {
  if (results.every((result) => result.truncatedInputs === 0)) return
  const cut = requests.filter((_, i) => results[i]!.truncatedInputs > 0)
  reply.headers({
    'x-truncated-inputs': String(results.reduce((sum, result) => sum + result.truncatedInputs, 0)),
    'x-truncated-tokens': String(results.reduce((sum, result) => sum + result.truncatedTokens, 0)),
    'x-truncation-direction': [
      ...new Set(cut.map((request) => chooseTruncation(request, config.truncation))),
    ].join(', '),
  })
}

async function whileConnected<Result>(
  reply: FastifyReply,
  run: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const left = new AbortController()
  const onClose = (): void => left.abort()
  reply.raw.once('close', onClose)
  // A drain that gives up answers through the handler: an answer behind its back would make its end an error.
  const abandoned = new Promise<never>((_resolve, reject) => {
    reply.abandon = (error) => {
      reject(error)
      left.abort()
    }
  })
  try {
    return await Promise.race([run(left.signal), abandoned])
  } finally {
    reply.raw.off('close', onClose)
  }
}

/** A client may wait less than the configuration allows, never longer. */
function readTimeoutMs(headers: IncomingHttpHeaders, requestTimeoutMs: number): number {
  const header = 'x-request-timeout-ms'
  const value = headers[header]
  if (value === undefined) return requestTimeoutMs
  const timeoutMs = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : 0
  if (timeoutMs === 0) {
    const expects = 'a positive whole number of milliseconds'
    throw new EmbedError('INVALID_HEADER', { header, value: String(value), expects })
  }
  return Math.min(timeoutMs, requestTimeoutMs)
}

function readPriority(headers: IncomingHttpHeaders): NonNullable<EmbedRequest['priority']> {
  const header = 'x-priority'
  const value = headers[header] ?? 'normal'
  if (value === 'normal' || value === 'high') return value
  throw new EmbedError('INVALID_HEADER', { header, value: String(value), expects: "'high' or 'normal'" })
}

/** The request wins over the configuration, the configuration over the dialect. */
function chooseTruncation(request: DialectRequest, configured: 'auto' | Truncation): Truncation {
  const fallback = configured === 'auto' ? request.dialectTruncation : configured
  if (!(request.truncate ?? fallback !== 'none')) return 'none'
  const direction = request.truncationDirection?.toLowerCase() ?? fallback
  return direction === 'left' ? 'left' : 'right'
}

/** TEI's names; whole milliseconds. */
function timingHeaders(
  { pipeline }: ServerContext,
  inputs: readonly EmbeddingInput[],
  result: EmbedResponse,
  durationMs: number,
): Record<string, string> {
  const totalMs = String(Math.round(durationMs))
  return {
    'x-compute-type': pipeline.engine.info.device.startsWith('CPU') ? 'cpu' : 'gpu',
    'x-compute-time': totalMs,
    'x-compute-characters': String(inputs.reduce((sum, input) => sum + countCharacters(input), 0)),
    'x-compute-tokens': String(result.tokens),
    'x-total-time': totalMs,
    'x-tokenization-time': String(Math.round(result.tokenizeMs)),
    'x-queue-time': String(Math.round(result.queueMs)),
    'x-inference-time': String(Math.round(result.inferenceMs)),
  }
}

/** Code points of a text, ids of a list. */
function countCharacters(input: EmbeddingInput): number {
  if (typeof input !== 'string') return input.length
  let count = input.length
  for (let i = 1; i < input.length; i++) {
    if ((input.charCodeAt(i) & 0xfc00) === 0xdc00 && (input.charCodeAt(i - 1) & 0xfc00) === 0xd800) count--
  }
  return count
}
