/** The recorder's thread: the compiled worker of dist/, since Node 20 runs no TypeScript in a thread. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type * as Recorder from '../../src/hardware/gpu/activity-recorder.ts'
import { compileFakeCupti, type FakeCupti } from '../fakes/fake-cupti.ts'
import { canCompile } from '../fakes/native-library.ts'

const built = new URL('../../dist/hardware/gpu/activity-recorder.js', import.meta.url)

describe.skipIf(!canCompile || !existsSync(built))(
  'the recorder, needs dist/ (npx tsc -p tsconfig.build.json)',
  () => {
    let fake: FakeCupti
    let recorder: Recorder.ActivityRecorder
    beforeAll(async () => {
      fake = compileFakeCupti()
      const { ActivityRecorder }: typeof Recorder = await import(built.href)
      recorder = new ActivityRecorder({ cuptiPath: fake.path })
    })
    afterAll(async () => {
      await recorder?.[Symbol.asyncDispose]()
    })

    it('records what is launched on this thread, on its clock', async () => {
      await recorder.start()
      const launchedMs = performance.now()
      fake.launch(0, 5000, 3)
      const { startedMs, durationNs, kernels, droppedRecords } = await recorder.stop()
      expect(kernels).toMatchObject([{ name: 'swiglu', graph: { id: 3, nodeId: 71 } }])
      // The fake's kernel starts 1 us after its launch; the two clocks are read within a millisecond of each other.
      expect(Math.abs(startedMs + kernels[0]!.startNs / 1e6 - launchedMs)).toBeLessThan(5)
      expect(durationNs).toBeGreaterThan(kernels[0]!.startNs)
      expect(droppedRecords).toBe(0)
    })

    it('takes full buffers while this thread waits inside a launch, and loses nothing', async () => {
      await recorder.start()
      // 400 bytes a launch: several buffers of 4 MiB, each returned from a thread of CUPTI's while the call blocks.
      fake.launchMany(22_000)
      const { kernels, memcpys, memsets, droppedRecords } = await recorder.stop()
      expect([kernels.length, memcpys.length, memsets.length, droppedRecords]).toEqual([
        22_000, 22_000, 22_000, 0,
      ])
      expect(new Set(kernels.map(({ correlationId }) => correlationId)).size).toBe(22_000)
      const isInOrder = kernels.every(({ startNs }, i) => i === 0 || kernels[i - 1]!.startNs <= startNs)
      expect(isInOrder).toBe(true)
    })

    it('ends when its memory is full, holds no more than that, and counts what was dropped', async () => {
      await recorder.start({ maxBufferBytes: 8 << 20 })
      fake.serve()
      fake.launchMany(22_000)
      const launchedMs = performance.now()
      await new Promise((resolve) => setTimeout(resolve, 300))
      fake.stop()
      const { startedMs, durationNs, kernels, memcpys, memsets, droppedRecords } = await recorder.stop()
      expect(droppedRecords).toBeGreaterThan(0)
      expect(startedMs + durationNs / 1e6).toBeLessThan(launchedMs)
      const bytes = kernels.length * 216 + memcpys.length * 96 + memsets.length * 88
      expect(bytes).toBeLessThanOrEqual(8 << 20)
      expect(bytes).toBeGreaterThan(0.99 * (8 << 20))
    })

    it('that has memory for none is over at once, and leaves nothing enabled', async () => {
      fake.serve()
      try {
        await recorder.start({ apiCalls: true, maxBufferBytes: 1 })
        await expect.poll(() => fake.enabledKinds()).toBe(0)
        const { kernels, droppedRecords } = await recorder.stop()
        expect(kernels).toEqual([])
        expect(droppedRecords).toBeGreaterThan(0)
      } finally {
        fake.stop()
      }
    })

    it('starts and stops while others launch', async () => {
      fake.serve()
      try {
        for (let i = 0; i < 6; i++) {
          await recorder.start({ apiCalls: i % 2 === 1 })
          await new Promise((resolve) => setTimeout(resolve, 5))
          const { kernels, droppedRecords } = await recorder.stop()
          expect(kernels.length).toBeGreaterThan(0)
          expect(droppedRecords).toBe(0)
        }
      } finally {
        fake.stop()
      }
    })

    it('tells refusals as they are, and works after them', async () => {
      fake.fail('cuptiActivityEnable', 35)
      await expect(recorder.start()).rejects.toMatchObject({
        name: 'EmbedError',
        code: 'PROFILING_NOT_PERMITTED',
        details: { api: 'cuptiActivityEnable' },
      })
      await recorder.start()
      await expect(recorder.start()).rejects.toMatchObject({ code: 'PROFILER_BUSY' })
      fake.launch(0, 10, 0)
      expect((await recorder.stop()).kernels).toHaveLength(1)
      await expect(recorder.stop()).rejects.toMatchObject({ code: 'INTERNAL' })
    })

    it('a library that cannot be opened is told too', async () => {
      const { ActivityRecorder }: typeof Recorder = await import(built.href)
      expect(() => new ActivityRecorder({ cuptiPath: '/nowhere/libcupti.so.13' })).toThrow(
        /libcupti was not found.*\n.*\/nowhere\/libcupti\.so\.13: /,
      )
    })

    it('its process ends by itself, CUPTI still at work', async () => {
      const script = `
        const { ActivityRecorder } = await import(${JSON.stringify(built.href)})
        const recorder = new ActivityRecorder({ cuptiPath: ${JSON.stringify(fake.path)} })
        await recorder.start()
        await recorder.stop()
        console.log('recorded')`
      const run = promisify(execFile)
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
        timeout: 20_000,
      })
      expect(stdout).toBe('recorded\n')
    })

    it('one disposed of records no more', async () => {
      await recorder.start()
      await recorder[Symbol.asyncDispose]()
      expect(fake.enabledKinds()).toBe(0)
    })
  },
)
