import { expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { KernelArguments } from './kernel-arguments.ts'
import { GpuModule } from './module.ts'
import { GpuStream } from './stream.ts'

it('launches with the values set last, each in its type', async () => {
  const seen: (readonly bigint[])[] = []
  const fake = await openFakeGpu({
    kernels: { scale: { durationMs: 1, run: (slots) => void seen.push(slots) } },
  })
  const { gpu } = fake
  const stream = new GpuStream(gpu, 's')
  const module = new GpuModule(gpu, 'scale', '.version 8.0')
  const kernel = module.kernel('scale')
  const args = new KernelArguments(['pointer', 'i32', 'u32', 'i64', 'f32'])
  kernel.launch(stream, { grid: [2], block: [32] }, args.set(0xffff_ffff_fff0n, -1, 0xffff_ffff, -2n, 1.5))
  kernel.launch(stream, { grid: [2, 3], block: [32, 2, 2], sharedBytes: 64 }, args.set(1n, 2, 3, 4, -1.5))
  const overlapping = new GpuModule(gpu, 'early', '.version 8.0', { overlapping: true })
  overlapping.kernel('scale').launch(stream, { grid: [1], block: [32] }, args.set(5n, 6, 7, 8, 0))
  await stream.idle()
  expect(seen).toEqual([
    [0xffff_ffff_fff0n, 0xffff_ffffn, 0xffff_ffffn, 0xffff_ffff_ffff_fffen, 0x3fc0_0000n],
    [1n, 2n, 3n, 4n, 0xbfc0_0000n],
    [5n, 6n, 7n, 8n, 0n],
  ])
  expect(kernel.usage).toEqual({ registers: 4, sharedBytes: 1, localBytes: 3 })
  kernel.allowSharedBytes(100_000)
  expect(thrownBy(() => args.set(1n)).message).toContain('1 values for a kernel of 5 parameters')
  expect(thrownBy(() => module.kernel('absent'))).toMatchObject({
    code: 'CUDA_STATUS',
    details: { name: 'CUDA_ERROR_NOT_FOUND' },
  })
  module[Symbol.dispose]()
  for (const use of [
    () => kernel.launch(stream, { grid: [1], block: [1] }, args),
    () => kernel.usage,
    () => kernel.allowSharedBytes(1),
  ]) {
    expect(thrownBy(use)).toMatchObject({
      code: 'USED_AFTER_FREE',
      details: { resource: "the kernel 'scale'" },
    })
  }
  expectClean(fake)
})
