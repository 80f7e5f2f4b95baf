/** Every failure as the dialect of the route says it: status, shape, no stack traces. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { EmbedError, type ErrorCode, toReason } from '../../errors.ts'
import { toPublicError } from './security/public-error.ts'

export type Dialect = 'openai' | 'tei' | 'cohere' | 'ollama'

declare module 'fastify' {
  interface FastifyContextConfig {
    dialect?: Dialect
  }
}

/** The core knows no HTTP: this is the one place where a code becomes a status. */
const statusByCode: Readonly<Record<ErrorCode, number>> = {
  EMPTY_INPUT: 400,
  INPUT_TOO_LONG: 400,
  INVALID_TOKEN_ID: 400,
  INVALID_DIMENSIONS: 400,
  UNKNOWN_PROMPT: 400,
  INSTRUCTION_NOT_SUPPORTED: 400,
  INVALID_REQUEST: 400,
  INVALID_HEADER: 400,
  TEXT_TOO_LARGE: 400,
  INVALID_API_KEY: 401,
  INVALID_JSON: 400,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  ROUTE_NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  SERVED_MODEL_UNKNOWN: 404,
  // TEI's: the request is right, what it depends on is not there
  TASK_NOT_SUPPORTED: 424,
  TOO_MANY_INPUTS: 400,
  QUEUE_FULL: 429,
  OVER_OBJECTIVE: 429,
  REQUEST_TOO_LARGE: 413,
  TOKEN_OUTPUT_TOO_LARGE: 413,
  REQUEST_TIMEOUT: 504,
  // nginx's "client closed request": the client is gone, only the log sees it
  REQUEST_CANCELLED: 499,
  SHUTTING_DOWN: 503,
  PROFILER_BUSY: 409,
  PROFILING_NOT_PERMITTED: 503,
  CUPTI_VERSION: 503,
  LIBRARY_NOT_FOUND: 503,
  ENGINE_FAILED: 500,
  ENGINE_OUT_OF_MEMORY: 500,
  ENGINE_UNAVAILABLE: 503,
  NO_ENGINE: 503,
  OUTPUT_NOT_SUPPORTED: 400,
  NON_FINITE_OUTPUT: 500,
  GOLDEN_MISMATCH: 503,
  TOKENIZER_FAILED: 500,
  INTERNAL: 500,
} as Record<ErrorCode, number>

/** TEI answers what it could read but not accept with 422, and what its backend could not do with 424. */
const teiStatusByCode: Partial<Record<ErrorCode, number>> = {
  INPUT_TOO_LONG: 422,
  INVALID_TOKEN_ID: 422,
  INVALID_DIMENSIONS: 422,
  UNKNOWN_PROMPT: 422,
  INSTRUCTION_NOT_SUPPORTED: 422,
  INVALID_REQUEST: 422,
  TEXT_TOO_LARGE: 422,
  TOO_MANY_INPUTS: 422,
  TOKENIZER_FAILED: 422,
  OUTPUT_NOT_SUPPORTED: 424,
  ENGINE_OUT_OF_MEMORY: 424,
  ENGINE_FAILED: 424,
  NON_FINITE_OUTPUT: 424,
}

/** For paths without a route, which have no dialect of their own. */
const dialectByPrefix: readonly (readonly [prefix: string, dialect: Dialect])[] = [
  ['/api/', 'ollama'],
  ['/v2/', 'cohere'],
]

/** The server's to mend, whatever status the dialect has for it: TEI answers a failed engine with 424. */
export function isServerFault(code: string): boolean {
  return (statusByCode[code as ErrorCode] ?? 500) >= 500
}

export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const embedError = toEmbedError(error, request)
  reply.errorCode = embedError.code
  logFailure(embedError, request)
  const { status, headers, body } = toErrorAnswer(embedError, dialectOf(request), request.id)
  void reply.status(status).headers(headers).send(body)
}

export interface ErrorAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: object
}

export function toErrorAnswer(error: EmbedError, dialect: Dialect, requestId: string): ErrorAnswer {
  // Tells whose fault it is, whatever the dialect answers.
  const ownStatus = statusByCode[error.code] ?? 500
  const status = (dialect === 'tei' ? teiStatusByCode[error.code] : undefined) ?? ownStatus
  const shown = ownStatus < 500 ? error : toPublicError(error, requestId)
  return { status, headers: headersOf(error), body: toBody[dialect](shown, status, requestId) }
}

function headersOf(error: EmbedError): Record<string, string> {
  switch (error.code) {
    case 'QUEUE_FULL':
    case 'OVER_OBJECTIVE': {
      const { retryAfterMs } = (error as EmbedError<'QUEUE_FULL' | 'OVER_OBJECTIVE'>).details
      return { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) }
    }
    case 'METHOD_NOT_ALLOWED':
      return { allow: (error as EmbedError<'METHOD_NOT_ALLOWED'>).details.allowed.join(',') }
    default:
      return {}
  }
}

function dialectOf({ routeOptions, url }: FastifyRequest): Dialect {
  return (
    routeOptions.config.dialect ?? dialectByPrefix.find(([prefix]) => url.startsWith(prefix))?.[1] ?? 'openai'
  )
}

const toBody: Readonly<Record<Dialect, (error: EmbedError, status: number, requestId: string) => object>> = {
  openai: toOpenaiBody,
  tei: toTeiBody,
  cohere: ({ message, code }, _status, id) => ({ id, message, code }),
  ollama: ({ message, code }) => ({ error: message, code }),
}

/** Ours to mend are errors, with their stack; a full or stopping server is a warning. What the client did wrong is
 * told to the client alone: its message may quote the request. */
function logFailure(error: EmbedError, { log }: FastifyRequest): void {
  const { code } = error
  const status = statusByCode[code] ?? 500
  if (status === 503 || status === 504) log.warn({ code, status }, error.message)
  else if (status >= 500) log.error({ code, status, err: error }, error.message)
}

/** `{ error: { message, type, param, code } }`, as OpenAI's clients read it. */
function toOpenaiBody(error: EmbedError, status: number): object {
  const type = status === 429 ? 'rate_limit_error' : status < 500 ? 'invalid_request_error' : 'server_error'
  const code = error.code === 'SERVED_MODEL_UNKNOWN' ? 'model_not_found' : error.code.toLowerCase()
  return { error: { message: error.message, type, param: paramByCode[error.code] ?? null, code } }
}

const paramByCode: Partial<Record<ErrorCode, string>> = {
  EMPTY_INPUT: 'input',
  INPUT_TOO_LONG: 'input',
  INVALID_TOKEN_ID: 'input',
  TOO_MANY_INPUTS: 'input',
  TEXT_TOO_LARGE: 'input',
  INVALID_DIMENSIONS: 'dimensions',
  SERVED_MODEL_UNKNOWN: 'model',
  UNKNOWN_PROMPT: 'prompt_name',
  INSTRUCTION_NOT_SUPPORTED: 'instruction',
}

/** `{ error, error_type }` with TEI's words for the type, and our code beside them. */
function toTeiBody(error: EmbedError): object {
  const types: Partial<Record<ErrorCode, string>> = {
    EMPTY_INPUT: 'Empty',
    QUEUE_FULL: 'Overloaded',
    OVER_OBJECTIVE: 'Overloaded',
    TOKENIZER_FAILED: 'Tokenizer',
    ENGINE_FAILED: 'Backend',
    ENGINE_OUT_OF_MEMORY: 'Backend',
    NON_FINITE_OUTPUT: 'Backend',
    OUTPUT_NOT_SUPPORTED: 'Backend',
    TASK_NOT_SUPPORTED: 'Backend',
    INTERNAL: 'Backend',
    REQUEST_TIMEOUT: 'Overloaded',
    ENGINE_UNAVAILABLE: 'Unhealthy',
    SHUTTING_DOWN: 'Unhealthy',
  }
  return { error: error.message, error_type: types[error.code] ?? 'Validation', code: error.code }
}

function toEmbedError(error: unknown, request: FastifyRequest): EmbedError {
  if (error instanceof EmbedError) return error
  const { code, message } = error as FastifyError
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new EmbedError('BODY_TOO_LARGE', { maxBodyBytes: request.routeOptions.bodyLimit })
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new EmbedError('UNSUPPORTED_MEDIA_TYPE', {
        mediaType: request.headers['content-type'] ?? 'none',
      })
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new EmbedError('INVALID_JSON', { reason: message })
    default:
      // Fastify's own refusals (bad URL, headers) are the client's; anything else is ours.
      if (
        typeof code === 'string' &&
        code.startsWith('FST_') &&
        ((error as FastifyError).statusCode ?? 500) < 500
      ) {
        return new EmbedError('INVALID_REQUEST', { reason: message })
      }
      return new EmbedError('INTERNAL', { reason: toReason(error) }, { cause: error })
  }
}
