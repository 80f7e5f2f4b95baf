/** The end of a server: not ready, then deaf, then silent, with everything answered that was accepted. */
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import type { Config } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import type { Listener } from './listener.ts'

/** How long an idle connection may still bring a request that was under way when the stop was asked for. */
const idleGraceMs = 250
/** How long the refusals past the drain limit may take to reach their clients. */
const flushTimeoutMs = 1000

/** Every answer carries `connection: close` meanwhile.
 * @returns how many requests were refused because they were still under way after drainTimeoutMs */
export async function drain(
  listener: Listener,
  inFlight: ReadonlySet<FastifyReply>,
  { shutdownDelayMs, drainTimeoutMs }: Pick<Config, 'shutdownDelayMs' | 'drainTimeoutMs'>,
): Promise<number> {
  if (shutdownDelayMs > 0) await sleep(shutdownDelayMs)
  const deadlineMs = performance.now() + drainTimeoutMs
  const closed = listener.stopListening()
  if (await settlesWithin(closed, Math.min(idleGraceMs, drainTimeoutMs))) return 0
  do {
    listener.closeIdle(socketsOf(inFlight))
    if (await settlesWithin(closed, 50)) return 0
  } while (performance.now() < deadlineMs)

  const late = [...inFlight]
  for (const reply of late) {
    const error = new EmbedError('SHUTTING_DOWN', {})
    if (reply.abandon !== undefined) reply.abandon(error)
    else if (!reply.sent) void reply.send(error)
  }
  await settlesWithin(closed, flushTimeoutMs)
  return late.length
}

function socketsOf(inFlight: ReadonlySet<FastifyReply>): Set<Socket> {
  return new Set([...inFlight].map((reply) => reply.request.raw.socket))
}

async function settlesWithin(promise: Promise<void>, limitMs: number): Promise<boolean> {
  const timer = new AbortController()
  const late = sleep(limitMs, false, { signal: timer.signal }).catch(() => false)
  return Promise.race([promise.then(() => true), late]).finally(() => timer.abort())
}
