/** FP8 weights kept on disk, through the engine on the emulated GPU. */
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { pack } from '../../../test/engine-contract.ts'
import { canEmulate, openEmulatedLibraries } from '../../../test/fakes/emulated-gpu.ts'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { writeNativeBert, writeNativeQwen3 } from '../../../test/fixtures/native-models.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import { type CudaEngineOptions, openCudaEngine } from './cuda-engine.ts'
import { CachedWeights, readCachedWeights, weightCachePath } from './weight-cache.ts'
import { writeCachedWeights } from './weight-keeper.ts'

const folder = await mkdtemp(join(tmpdir(), 'weight-cache-'))
afterAll(() => rm(folder, { recursive: true }))
const scales = { kind: 'fixed', scale: 8 / 448 } as const

async function embed(options: CudaEngineOptions): Promise<Float32Array> {
  await using engine = await openCudaEngine({ scales, ...options }, await openEmulatedLibraries())
  await engine.weightsKept
  return (await engine.embed(pack([[1, 2, 3], [7]]))).values
}

describe.skipIf(!canEmulate)('FP8 weights on disk', { timeout: 120_000 }, () => {
  for (const [name, write, precision] of [
    ['Qwen3', writeNativeQwen3, 'fp8-rowwise'],
    ['BERT', writeNativeBert, 'fp8'],
  ] as const) {
    it(`a second start of ${name} at ${precision} takes them, whole or not at all`, async () => {
      const spec = await write(folder)
      const weightCacheFolder = join(folder, name, precision)
      const options = { spec, precision, weightCacheFolder }
      const first = await embed(options)
      const path = weightCachePath(weightCacheFolder, spec.contentHash, precision)
      const [weights] = spec.files.weights as [string]
      const [stored, checkpoint] = [await readFile(path), await readFile(weights)]
      // The checkpoint with other matrices: the second start does not see them.
      const changed = Buffer.from(checkpoint)
      for (let at = checkpoint.length - 20_000; at < checkpoint.length; at += 4) changed[at + 3]! ^= 0x80
      await writeFile(weights, changed)
      expect(await embed(options)).toEqual(first)
      const ofChanged = await embed({ ...options, weightCacheFolder: undefined })
      expect(ofChanged).not.toEqual(first)
      // Neither a file with a bit turned over nor one that was cut: it is made anew.
      const damaged = Buffer.from(stored)
      damaged[100]! ^= 1
      await writeFile(path, damaged)
      expect(await embed(options)).toEqual(ofChanged)
      await writeFile(weights, checkpoint)
      expect(await embed(options)).toEqual(ofChanged)
      await truncate(path, stored.length - 5)
      expect(await embed(options)).toEqual(first)
      expect(await readFile(path)).toEqual(stored)
      expect(await readdir(weightCacheFolder)).toHaveLength(1)
    })
  }

  it('keeps no bf16', async () => {
    const spec = await writeNativeQwen3(folder)
    const weightCacheFolder = join(folder, 'bf16')
    await embed({ spec, precision: 'bf16', weightCacheFolder })
    expect(await readdir(weightCacheFolder).catch(() => 'none')).toBe('none')
  })
})

it('reads what it wrote, over many chunks', async () => {
  const { gpu } = await openFakeGpu({ totalBytes: 1 << 30 })
  const stream = new GpuStream(gpu, 'weights')
  // Pieces within a chunk, over the edge of one, and longer than one.
  const pieces = [5, 32 << 20, 1000, (65 << 20) + 3].map((bytes, i) => {
    const buffer = new DeviceBuffer(gpu, 'piece', bytes)
    stream.setBytes(buffer, i + 1)
    return buffer
  })
  await stream.idle()
  const path = join(folder, 'many.weights')
  await writeCachedWeights(path, pieces, { gpu })
  const cached = (await readCachedWeights(path, stream))!
  const start = cached.buffer.handle
  const places = pieces.map(({ bytes }) => Number(cached.take(bytes) - start))
  expect(places).toEqual([0, 256, 256 + (32 << 20), 256 + (32 << 20) + 1024])
  expect(thrownBy(() => cached.take(1)).message).toContain('no bytes')
  expect(thrownBy(() => new CachedWeights(cached.buffer, [7]).take(8)).message).toContain('has 7 bytes')
  const file = await readFile(path)
  for (const [i, { bytes }] of pieces.entries())
    for (const at of [0, bytes - 1]) expect(file[places[i]! + at]).toBe(i + 1)
  expect(await readCachedWeights(join(folder, 'none'), stream)).toBeUndefined()
  gpu[Symbol.dispose]()
})
