import type { FastifyInstance } from 'fastify'
import { type EngineState, engineState } from '../../telemetry/channels.ts'
import type { ServerContext } from './context.ts'

/** An engine that dies, that cannot be replaced yet, or that was, is worth a line each. */
export function logEngineState(app: FastifyInstance, context: ServerContext): void {
  const listener = ({ source, engine, isHealthy, reason }: EngineState): void => {
    if (source !== context.pipeline.engine) return
    if (isHealthy) app.log.warn({ engine, reason }, 'the engine was replaced')
    else app.log.error({ engine, reason }, 'the engine is dead')
  }
  engineState.subscribe(listener)
  app.addHook('onClose', async () => engineState.unsubscribe(listener))
}
