/** The thread's side of activity-recorder.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { EmbedError, toReason } from '../../errors.ts'
import { type Cupti, loadCupti } from '../ffi/cupti.ts'
import type { RecorderAnswer, RecorderRequest, RecorderStart } from './activity-recorder.ts'
import { ActivitySession } from './activity-session.ts'

const port = parentPort
if (port === null) throw new Error('activity-worker runs as a worker thread only')

const { cuptiPath }: RecorderStart = workerData
let session: ActivitySession | undefined
port.on('message', (request: RecorderRequest) => void answer(request))

async function answer(request: RecorderRequest): Promise<void> {
  try {
    session ??= new ActivitySession(open(cuptiPath))
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

function open(path: string): Cupti {
  try {
    return loadCupti(path)
  } catch (error) {
    const searched = [`${path}: ${toReason(error)}`]
    const fix = "install CUPTI anew (pip: nvidia-cuda-cupti); 'akidb-embedding doctor' tells what was found"
    throw new EmbedError('LIBRARY_NOT_FOUND', { library: 'libcupti', searched, fix })
  }
}

function send(message: RecorderAnswer): void {
  port!.postMessage(message)
}
