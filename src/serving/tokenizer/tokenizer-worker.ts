/** The thread's side of worker-slot.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { toReason } from '../../errors.ts'
import { TokenizerCore } from './tokenizer-core.ts'
import type { WorkerAnswer, WorkerRequest, WorkerStart } from './worker-slot.ts'

const port = parentPort
if (port === null) throw new Error('tokenizer-worker runs as a worker thread only')

const { tokenizerPath }: WorkerStart = workerData
const core = await TokenizerCore.load(tokenizerPath)
port.on('message', (request: WorkerRequest) => void answer(request))
send({ kind: 'ready' })

async function answer({ requestId, texts, options }: WorkerRequest): Promise<void> {
  try {
    const packed = await core.encode(texts, options)
    send({ kind: 'encoded', requestId, packed }, [packed.buffer])
  } catch (error) {
    send({ kind: 'failed', requestId, reason: toReason(error) })
  }
}

function send(message: WorkerAnswer, transfer: ArrayBuffer[] = []): void {
  port!.postMessage(message, transfer)
}
