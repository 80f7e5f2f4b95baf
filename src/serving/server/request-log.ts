/** Request ids, and the one log line a request. No text of a user and no query string is ever logged. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import type { RequestEndListener } from './request-end.ts'

export const requestIdHeader = 'x-request-id'

/** Short, and nothing that could break a log line or a header. */
const saneRequestId = /^[\w.:/+=@-]{1,128}$/

/** The client's own id when it is sane, else a new one. */
export function chooseRequestId({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers[requestIdHeader]
  return typeof given === 'string' && saneRequestId.test(given) ? given : randomUUID()
}

/** Every answer tells its id, refusals too. */
export function tellRequestId(request: FastifyRequest, reply: FastifyReply): void {
  void reply.header(requestIdHeader, request.id)
}

/** Fastify's two lines a request give way to ours, which hold no URL. */
export class RequestLogController extends LogController {
  constructor() {
    super({ requestIdLogLabel: 'requestId' })
  }
  override incomingRequest(): void {}
  override requestCompleted(): void {}
}

/** One line a request, at level info, whatever the level of the rest. */
export const writeAccessLog: RequestEndListener = ({ request, route, status, outcome, durationMs }) => {
  const line = {
    method: request.method,
    route,
    status,
    outcome,
    durationMs: Math.round(durationMs * 1000) / 1000,
  }
  request.log.child({}, { level: 'info' }).info(line, 'request')
}
