/** When FP8 weights are written: beside the ready engine, given up with it. */
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pack } from '../../../test/engine-contract.ts'
import { canEmulate, openEmulatedLibraries } from '../../../test/fakes/emulated-gpu.ts'
import { failureOf } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { writeNativeQwen3 } from '../../../test/fixtures/native-models.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { type CudaEngine, openCudaEngine } from './cuda-engine.ts'
import { WeightKeeper, writeCachedWeights } from './weight-keeper.ts'

const folder = await mkdtemp(join(tmpdir(), 'weight-keeper-'))
afterAll(() => rm(folder, { recursive: true }))

const listed = async (of: string) => readdir(of).catch(() => [])

describe.skipIf(!canEmulate)('an engine that keeps its weights', { timeout: 60_000 }, () => {
  let spec: ModelSpec
  beforeAll(async () => {
    spec = await writeNativeQwen3(folder)
  })

  /** @param onReadBack before each copy from the GPU */
  async function open(weightCacheFolder: string, onReadBack: () => void = () => {}) {
    const libraries = await openEmulatedLibraries()
    const notes: string[] = []
    const order: string[] = []
    const { cuMemcpyDtoHAsync_v2: copy, cuCtxSynchronize: synchronize } = libraries.cuda
    const cuda = {
      ...libraries.cuda,
      cuMemcpyDtoHAsync_v2: (...args: Parameters<typeof copy>) => {
        order.push('copy')
        onReadBack()
        copy(...args)
      },
      // What freeing the GPU begins with.
      cuCtxSynchronize: () => {
        order.push('end')
        synchronize()
      },
    }
    const engine = await openCudaEngine(
      { spec, precision: 'fp8-rowwise', weightCacheFolder, onNote: (note) => notes.push(note) },
      { ...libraries, cuda },
    )
    return { engine, notes, order }
  }

  it('is ready before anything is read back or written', async () => {
    const kept = join(folder, 'ready')
    const { engine, order, notes } = await open(kept)
    expect([order, await listed(kept)]).toEqual([[], []])
    await engine.weightsKept
    expect(await listed(kept)).toEqual([expect.stringMatching(/-fp8-rowwise-v1\.weights$/)])
    expect(notes).toEqual([])
    await engine[Symbol.asyncDispose]()
  })

  it('embeds meanwhile', async () => {
    const { engine } = await open(join(folder, 'meanwhile'))
    const [{ values }] = await Promise.all([engine.embed(pack([[1, 2, 3]])), engine.weightsKept])
    expect((await engine.embed(pack([[1, 2, 3]]))).values).toEqual(values)
    await engine[Symbol.asyncDispose]()
  })

  it('gives them up when it ends, and touches the GPU no more', async () => {
    const kept = join(folder, 'given up')
    let ended: Promise<void> | undefined
    let engine: CudaEngine | undefined
    const opened = await open(kept, () => {
      ended ??= engine?.[Symbol.asyncDispose]()
    })
    engine = opened.engine
    await engine.weightsKept
    await ended
    expect(await listed(kept)).toEqual([])
    expect(opened.order.at(-1)).toBe('end')
    expect(opened.order.filter((each) => each === 'end')).toHaveLength(1)
    expect(opened.notes).toEqual([])
  })

  it('tells that nothing can be kept, and works', async () => {
    const file = join(folder, 'a file')
    await writeFile(file, '')
    const { engine, notes } = await open(file)
    expect((await engine.embed(pack([[1, 2, 3]]))).rows).toBe(1)
    await engine.weightsKept
    expect(notes).toEqual([
      expect.stringMatching(/^cuda: the weights are not kept for the next start \(EEXIST.*, which loads/),
    ])
    await engine[Symbol.asyncDispose]()
  })
})

async function makePiece(bytes: number) {
  const fake = await openFakeGpu({ totalBytes: 1 << 28 })
  const pieces = [new DeviceBuffer(fake.gpu, 'piece', bytes)]
  return { fake, pieces, gpu: fake.gpu }
}

describe('the keeper', () => {
  it('reads 1 MiB at a time and leaves the event loop between', async () => {
    const { fake, pieces, gpu } = await makePiece(40 << 20)
    const path = join(folder, 'slices', 'a.weights')
    let turns = 0
    let isWritten = false
    const count = () => {
      turns++
      if (!isWritten) setImmediate(count)
    }
    setImmediate(count)
    await writeCachedWeights(path, pieces, { gpu })
    isWritten = true
    expect(fake.driver.calls('cuMemcpyDtoHAsync_v2')).toBe(40)
    expect(fake.driver.live.pinnedBuffers).toBe(0)
    expect(turns).toBeGreaterThanOrEqual(40)
    expectClean(fake)
  })

  it('leaves nothing of a file that it gave up half way', async () => {
    const { fake, pieces, gpu } = await makePiece(40 << 20)
    const into = join(folder, 'half way')
    const givenUp = new AbortController()
    const writing = writeCachedWeights(join(into, 'a.weights'), pieces, { gpu, signal: givenUp.signal })
    const failure = writing.catch((error: unknown) => error)
    while (fake.driver.calls('cuMemcpyDtoHAsync_v2') < 5) await new Promise(setImmediate)
    expect(await listed(into)).toEqual([expect.stringMatching(/^a\.weights\..*\.tmp$/)])
    givenUp.abort()
    expect(await failure).toBe(givenUp.signal.reason)
    expect(await listed(into)).toEqual([])
    expect(fake.driver.calls('cuMemcpyDtoHAsync_v2')).toBeLessThan(40)
    expectClean(fake)
  })

  it('outlives a GPU that fails, and tells', async () => {
    const { fake, pieces, gpu } = await makePiece(4 << 20)
    const into = join(folder, 'lost')
    fake.driver.fail('cuMemcpyDtoHAsync_v2', 700, 3)
    const notes: string[] = []
    const keeper = new WeightKeeper({
      gpu,
      path: join(into, 'a.weights'),
      pieces,
      onNote: (note) => notes.push(note),
    })
    await keeper.done
    expect(notes).toEqual([expect.stringContaining('CUDA_ERROR_ILLEGAL_ADDRESS')])
    expect(await listed(into)).toEqual([])
    const path = join(into, 'b.weights')
    fake.driver.fail('cuMemcpyDtoHAsync_v2', 700)
    expect((await failureOf(writeCachedWeights(path, pieces, { gpu }))).code).toBe('CUDA_STATUS')
    expectClean(fake)
  })

  it('removes what killed processes left, not what another one writes', async () => {
    const { fake, pieces, gpu } = await makePiece(100)
    const into = join(folder, 'killed')
    const path = join(into, 'a.weights')
    await writeCachedWeights(path, pieces, { gpu })
    const hourAgo = Date.now() / 1e3 - 3600
    for (const name of ['b.weights.1.tmp', 'b.weights.2.tmp']) await writeFile(join(into, name), 'half')
    await utimes(join(into, 'b.weights.1.tmp'), hourAgo, hourAgo)
    await utimes(path, hourAgo, hourAgo)
    await writeCachedWeights(join(into, 'c.weights'), pieces, { gpu })
    expect(await listed(into)).toEqual(['a.weights', 'b.weights.2.tmp', 'c.weights'])
    expectClean(fake)
  })
})
