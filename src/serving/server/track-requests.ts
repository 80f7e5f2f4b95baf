import type { FastifyInstance, FastifyReply } from 'fastify'
import type { EmbedError } from '../../errors.ts'
import type { PipelineHost } from '../pipeline/pipeline-host.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** Makes the handler end with this error; undefined where nothing that takes long is under way. */
    abandon: ((error: EmbedError) => void) | undefined
  }
}

/** @returns the requests that are not answered yet, kept up to date; each of them keeps its pipeline alive */
export function trackRequests(app: FastifyInstance, host: PipelineHost): ReadonlySet<FastifyReply> {
  const inFlight = new Set<FastifyReply>()
  app.decorateReply('abandon', undefined)
  app.addHook('onRequest', (_request, reply, done) => {
    const leave = host.enter()
    inFlight.add(reply)
    // Comes once, whether the answer was sent or the client left.
    reply.raw.once('close', () => {
      inFlight.delete(reply)
      leave()
    })
    done()
  })
  return inFlight
}
