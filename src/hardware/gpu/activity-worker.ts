/** The thread's side of activity-recorder.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { EmbedError, toReason } from '../../errors.ts'
import { loadCupti } from '../ffi/cupti.ts'
import type { RecorderAnswer, RecorderRequest, RecorderStart } from './activity-recorder.ts'
import { ActivitySession } from './activity-session.ts'

const port = parentPort
if (port === null) throw new Error('activity-worker runs as a worker thread only')

const { cuptiPath }: RecorderStart = workerData
let session: ActivitySession | undefined
port.on('message', (request: RecorderRequest) => void answer(request))

async function answer(request: RecorderRequest): Promise<void> {
  try {
    session ??= new ActivitySession(loadCupti(cuptiPath))
    if (request.kind === 'start') {
      await session.start(request.options)
      send({ kind: 'started' })
    } else {
      send({ kind: 'stopped', activity: await session.stop() })
    }
  } catch (error) {
    // Only code and details cross to another thread whole.
    const { code, details } =
      error instanceof EmbedError ? error : new EmbedError('INTERNAL', { reason: toReason(error) })
    send({ kind: 'failed', code, details })
  }
}

function send(message: RecorderAnswer): void {
  port!.postMessage(message)
}
