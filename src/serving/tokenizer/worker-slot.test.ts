import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { unpackEncodings } from './packed-encoding.ts'
import { WorkerSlot } from './worker-slot.ts'

const options = { maxTokens: 8, truncation: 'right' } as const

/** A thread that keeps the protocol without a tokenizer: a text's one id is its length. 'die' kills it, 'fail' is
 * answered with an error, 'wait' never. */
const program = `
  const { parentPort } = require('node:worker_threads')
  parentPort.on('message', ({ requestId, texts }) => {
    if (texts.includes('die')) throw new Error('a bad day')
    if (texts.includes('wait')) return
    if (texts.includes('fail')) return parentPort.postMessage({ kind: 'failed', requestId, reason: 'no such text' })
    const n = texts.length
    const packed = Int32Array.from([...texts.map(() => 1), ...texts.map(() => 1), ...texts.map((text) => text.length)])
    parentPort.postMessage({ kind: 'encoded', requestId, packed }, [packed.buffer])
  })
  parentPort.postMessage({ kind: 'ready' })
`

function createSlot(source = program): { slot: WorkerSlot; workers: Worker[] } {
  const workers: Worker[] = []
  const slot = new WorkerSlot(() => {
    const worker = new Worker(source, { eval: true })
    workers.push(worker)
    return worker
  })
  return { slot, workers }
}

async function firstIds(slot: WorkerSlot, texts: string[]): Promise<number[]> {
  return unpackEncodings(await slot.encode(texts, options), texts.length).map((input) => input.ids[0]!)
}

describe('WorkerSlot', () => {
  it('gives each request its own answer and counts what is under way', async () => {
    const { slot, workers } = createSlot()
    await using _ = slot
    await slot.start()
    const answers = [firstIds(slot, ['one', 'three']), firstIds(slot, ['sixteen letters.'])]
    expect(slot.busyChars).toBe(24)
    expect(await Promise.all(answers)).toEqual([[3, 5], [16]])
    expect(slot.busyChars).toBe(0)
    expect(workers).toHaveLength(1)
  })

  it('fails only the request that the thread could not do', async () => {
    const { slot } = createSlot()
    await using _ = slot
    const failing = slot.encode(['fail'], options)
    const fine = firstIds(slot, ['four'])
    await expect(failing).rejects.toMatchObject({
      code: 'TOKENIZER_FAILED',
      message: 'the tokenizer failed: no such text',
    })
    expect(await fine).toEqual([4])
    expect(slot.busyChars).toBe(0)
  })

  it('fails what a dying thread had in hand and starts another at once', async () => {
    const { slot, workers } = createSlot()
    await using _ = slot
    await slot.start()
    const lost = [slot.encode(['wait'], options), slot.encode(['die'], options)]
    const results = await Promise.allSettled(lost)
    for (const result of results) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: {
          code: 'TOKENIZER_FAILED',
          message: 'the tokenizer failed: its thread stopped: a bad day',
        },
      })
    }
    expect(workers).toHaveLength(2)
    expect(slot.busyChars).toBe(0)
    expect(await firstIds(slot, ['back'])).toEqual([4])
    expect(workers).toHaveLength(2)
  })

  it('tells a thread that cannot start, and tries again only when asked', async () => {
    const { slot, workers } = createSlot(`throw new Error('no library')`)
    await using _ = slot
    const failure = {
      code: 'TOKENIZER_FAILED',
      message: 'the tokenizer failed: its thread stopped: no library',
    }
    await expect(slot.start()).rejects.toMatchObject(failure)
    expect(workers).toHaveLength(1)
    await expect(slot.encode(['a'], options)).rejects.toMatchObject(failure)
    expect(workers).toHaveLength(2)
  })

  it('ends its thread and fails what is under way when disposed', async () => {
    const { slot, workers } = createSlot()
    await slot.start()
    const waiting = slot.encode(['wait'], options)
    const ended = new Promise((resolve) => workers[0]!.once('exit', resolve))
    const disposed = slot[Symbol.asyncDispose]()
    await expect(waiting).rejects.toMatchObject({
      message: 'the tokenizer failed: the tokenizer is disposed',
    })
    await Promise.all([disposed, ended])
    await expect(slot.encode(['a'], options)).rejects.toMatchObject({ code: 'TOKENIZER_FAILED' })
    expect(workers).toHaveLength(1)
  })
})
