/** What the dialects share: from the fields of a body to one call of the pipeline. */
import type { FastifyReply } from 'fastify'
import { EmbedError } from '../../errors.ts'
import type { EmbeddingInput, EmbedResponse } from '../pipeline/embedding-pipeline.ts'
import type { Truncation } from '../tokenizer/tokenizer.ts'
import type { ServerContext } from './context.ts'

export interface DialectRequest {
  readonly inputs: readonly EmbeddingInput[]
  readonly promptName: string | null | undefined
  readonly truncate: boolean | null | undefined
  readonly truncationDirection: string | null | undefined
  /** What the dialect does when neither the request nor the configuration says. */
  readonly dialectTruncation: Truncation
  readonly normalize: boolean | null | undefined
  readonly dimensions: number | null | undefined
}

/** Runs the request; a client that leaves cancels it. */
export async function embedForRequest(
  { config, pipeline }: ServerContext,
  reply: FastifyReply,
  request: DialectRequest,
): Promise<EmbedResponse> {
  const { inputs } = request
  if (inputs.length > config.maxInputs) {
    throw new EmbedError('TOO_MANY_INPUTS', { inputs: inputs.length, maxInputs: config.maxInputs })
  }
  const left = new AbortController()
  const onClose = (): void => left.abort()
  reply.raw.once('close', onClose)
  try {
    return await pipeline.embed({
      inputs,
      promptName: request.promptName ?? undefined,
      truncation: chooseTruncation(request, config.truncation),
      normalize: request.normalize ?? undefined,
      dimensions: request.dimensions ?? undefined,
      signal: left.signal,
      origin: reply.request,
    })
  } finally {
    reply.raw.off('close', onClose)
  }
}

/** Tells how much was cut; absent when nothing was. */
export function setTruncationHeaders(reply: FastifyReply, result: EmbedResponse): void {
  if (result.truncatedInputs === 0) return
  reply.headers({
    'x-truncated-inputs': String(result.truncatedInputs),
    'x-truncated-tokens': String(result.truncatedTokens),
  })
}

/** The request wins over the configuration, the configuration over the dialect. */
function chooseTruncation(request: DialectRequest, configured: 'auto' | Truncation): Truncation {
  const fallback = configured === 'auto' ? request.dialectTruncation : configured
  if (!(request.truncate ?? fallback !== 'none')) return 'none'
  const direction = request.truncationDirection?.toLowerCase() ?? fallback
  return direction === 'left' ? 'left' : 'right'
}
