/** Real tokenizer threads: the compiled worker of dist/, since Node 20 runs no TypeScript in a thread. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TokenizedInput, Tokenizer } from '../../src/serving/tokenizer/tokenizer.ts'
import type * as WorkerTokenizer from '../../src/serving/tokenizer/worker-tokenizer.ts'
import { writeTokenizerFile } from '../fakes/tiny-tokenizer.ts'

const built = new URL('../../dist/serving/tokenizer/worker-tokenizer.js', import.meta.url)
const builtWorker = new URL('tokenizer-worker.js', built)

const whole = { maxTokens: 1_000_000, truncation: 'right' } as const
const viaThreads = { inlineChars: -1 }
const long = 'a b hello '.repeat(100_000)

describe.skipIf(!existsSync(built))('tokenizer threads, need dist/ (npx tsc -p tsconfig.build.json)', () => {
  let createTokenizer: typeof WorkerTokenizer.createTokenizer
  let file: Awaited<ReturnType<typeof writeTokenizerFile>>
  let threaded: Tokenizer
  let reference: Tokenizer
  beforeAll(async () => {
    const module: typeof WorkerTokenizer = await import(built.href)
    createTokenizer = module.createTokenizer
    file = await writeTokenizerFile()
    const { tokenizerPath } = file
    threaded = await createTokenizer({ tokenizerPath, workerCount: 2, ...viaThreads })
    reference = await createTokenizer({ tokenizerPath, workerCount: 0 })
  })
  afterAll(async () => {
    await threaded[Symbol.asyncDispose]()
    await reference[Symbol.asyncDispose]()
    await file[Symbol.asyncDispose]()
  })

  it('gives what the calling thread gives, for lists split over the threads too', async () => {
    const texts = Array.from(
      { length: 3_000 },
      (_, i) => `hello ${'a b '.repeat(i % 40)}unbelievable${i} \ud800`,
    )
    for (const list of [[], [''], ['hello'], texts]) {
      for (const options of [whole, { maxTokens: 8, truncation: 'left' } as const]) {
        expect(await threaded.encode(list, options)).toEqual(await reference.encode(list, options))
      }
    }
  })

  it('names the place of a text that is too long in the whole list', async () => {
    const texts = [...Array.from({ length: 99 }, () => 'a '.repeat(1_000)), 'b '.repeat(1_001)]
    await expect(threaded.encode(texts, { maxTokens: 1_002, truncation: 'none' })).rejects.toMatchObject({
      code: 'INPUT_TOO_LONG',
      details: { index: 99, tokens: 1_003, maxTokens: 1_002 },
    })
  })

  it('answers short texts while 1 MB ones are counted, and leaves the event loop free', async () => {
    const { tokenizerPath } = file
    await using one = await createTokenizer({ tokenizerPath, workerCount: 1, ...viaThreads })
    const done: string[] = []
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    const counted = Array.from({ length: 3 }, async () => {
      const [input] = await one.encode([long], { maxTokens: 8, truncation: 'right' })
      done.push('long')
      return [input!.ids.length, input!.totalTokens]
    })
    const short = one.encode(['hello'], whole).then((inputs) => {
      done.push('short')
      return inputs
    })
    expect(await Promise.all(counted)).toEqual(Array.from({ length: 3 }, () => [8, 300_002]))
    clearInterval(timer)
    expect([...(await short)[0]!.ids]).toEqual([2, 4, 3])
    expect(done[0]).toBe('short')
    expect(ticks).toBeGreaterThan(20)
  })

  it('survives threads that are killed in the middle of native work', async () => {
    const workers: Worker[] = []
    await using tokenizer = await createTokenizer({
      tokenizerPath: file.tokenizerPath,
      workerCount: 1,
      ...viaThreads,
      createWorker() {
        const worker = new Worker(builtWorker, { workerData: { tokenizerPath: file.tokenizerPath } })
        workers.push(worker)
        return worker
      },
    })
    expect(workers).toHaveLength(0) // until there is work for one
    for (let round = 0; round < 3; round++) {
      const lost = tokenizer.encode([long], whole)
      const outcome = Promise.allSettled([lost])
      await tokenizer.encode(['a'], whole) // the thread is at work by now
      await workers.at(-1)!.terminate()
      expect(await outcome).toMatchObject([{ status: 'rejected', reason: { code: 'TOKENIZER_FAILED' } }])
      const [input]: TokenizedInput[] = await tokenizer.encode(['hello'], whole)
      expect([...input!.ids]).toEqual([2, 4, 3])
    }
    expect(workers).toHaveLength(4)
  })

  it('refuses a broken file without leaving threads', async () => {
    await using broken = await writeTokenizerFile('{}')
    const attempt = createTokenizer({ tokenizerPath: broken.tokenizerPath, workerCount: 2 })
    await expect(attempt).rejects.toMatchObject({ code: 'MODEL_FILE_CORRUPT' })
  })

  it('keeps no process alive when idle', async () => {
    const script = `
      const { createTokenizer } = await import(${JSON.stringify(built.href)})
      const tokenizer = await createTokenizer({ tokenizerPath: ${JSON.stringify(file.tokenizerPath)}, inlineChars: -1 })
      const [input] = await tokenizer.encode(['hello world'], { maxTokens: 8, truncation: 'right' })
      process.stdout.write(input.ids.join(' '))`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 20_000,
    })
    expect(stdout).toBe('2 4 5 3')
  })
})
