/** How fast this machine's memory copies: every core at once, on pieces that no cache holds. */
import { Worker } from 'node:worker_threads'

const copySource = `
const { parentPort, workerData } = require('node:worker_threads')
const from = new Uint8Array(workerData.bytes).fill(1)
const to = new Uint8Array(workerData.bytes).fill(2)
parentPort.once('message', () => {
  const startMs = performance.now()
  let copies = 0
  while (performance.now() - startMs < workerData.durationMs) {
    to.set(from)
    copies++
  }
  parentPort.postMessage((2 * copies * workerData.bytes * 1000) / (performance.now() - startMs))
})
parentPort.postMessage('ready')
`

/** @returns bytes read and written a second */
export async function measureMemoryPeak(options: {
  readonly threads: number
  /** Of each of the two pieces of a thread. Default 64 MiB. */
  readonly bytes?: number
  /** Default 500. */
  readonly durationMs?: number
}): Promise<number> {
  const workerData = { bytes: options.bytes ?? 64 << 20, durationMs: options.durationMs ?? 500 }
  const workers = Array.from(
    { length: options.threads },
    () => new Worker(copySource, { eval: true, workerData }),
  )
  try {
    await Promise.all(workers.map(nextMessage))
    const rates = workers.map(nextMessage)
    for (const worker of workers) worker.postMessage('go')
    return (await Promise.all(rates)).reduce<number>((sum, rate) => sum + Number(rate), 0)
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
}

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
}
