/** Tells exactly once how a request ended: answered, refused, or left by its client. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorCode } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** What the error handler answered with. */
    errorCode: ErrorCode | undefined
  }
}

export interface RequestEnd {
  readonly request: Pick<FastifyRequest, 'method' | 'log'>
  /** Pattern of the route; 'unmatched' where there is none, so that what clients ask for makes no new label. */
  readonly route: string
  readonly status: number
  /** 'ok' or the code of the error; 'HTTP_503' where a route answers with a status of its own. */
  readonly outcome: string
  readonly durationMs: number
}

export type RequestEndListener = (end: RequestEnd) => void

/** Costs nothing without listeners. Fastify's own onResponse stays silent when the client has left. */
export function observeRequestEnds(app: FastifyInstance, listeners: readonly RequestEndListener[]): void {
  app.decorateReply('errorCode', undefined)
  if (listeners.length === 0) return
  app.addHook('onRequest', (request, reply, done) => {
    const startMs = performance.now()
    // Ended is not enough: the rest of a long answer waits until its client takes it.
    let isSent = false
    const { socket } = request.raw
    // Node says 'finish' of what it had to drop as well.
    reply.raw.once('finish', () => (isSent = !socket.destroyed))
    // Comes once, whether the answer was sent or the client left.
    reply.raw.once('close', () => {
      const end = toRequestEnd(request, reply, isSent, performance.now() - startMs)
      for (const listener of listeners) listener(end)
    })
    done()
  })
}

function toRequestEnd(
  request: FastifyRequest,
  reply: FastifyReply,
  isSent: boolean,
  durationMs: number,
): RequestEnd {
  const route = request.routeOptions.url ?? 'unmatched'
  if (!isSent) return { request, route, status: 499, outcome: 'REQUEST_CANCELLED', durationMs }
  const status = reply.statusCode
  const outcome = reply.errorCode ?? (status < 400 ? 'ok' : `HTTP_${status}`)
  return { request, route, status, outcome, durationMs }
}
