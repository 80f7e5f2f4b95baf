import { describe, expect, it } from 'vitest'
import { makeActivity, makeKernel } from '../../../test/fixtures/gpu-activity.ts'
import type { GpuActivity } from '../../hardware/gpu/activity.ts'
import type { RecordingOptions } from '../../hardware/gpu/activity-session.ts'
import { recordWork, summariseRecorded } from './record-work.ts'

/** Its recording began 10 ms before now, and holds a kernel from then and one of 5 ms from 2 ms after the start. */
function createRecorder() {
  const calls: string[] = []
  let startedMs = 0
  return {
    calls,
    start: async ({ apiCalls = false }: RecordingOptions = {}): Promise<void> => {
      calls.push(apiCalls ? 'start with calls' : 'start')
      startedMs = performance.now() - 10
    },
    stop: async (): Promise<GpuActivity> => {
      calls.push('stop')
      const kernels = [
        makeKernel({ name: 'before', startNs: 1e6, endNs: 2e6 }),
        makeKernel({ name: 'own', startNs: 12e6, endNs: 17e6 }),
      ]
      return makeActivity({ startedMs, kernels })
    },
  }
}

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

describe('recordWork', () => {
  it('records around the run and keeps what began in it', async () => {
    const recorder = createRecorder()
    const { recording, activity } = await recordWork({
      isOurs: () => true,
      recorder,
      apiCalls: true,
      run: async () => {
        recorder.calls.push('run')
        await wait(20)
      },
    })
    expect(recorder.calls).toEqual(['start with calls', 'run', 'stop'])
    expect(recording.endedMs - recording.startedMs).toBeGreaterThanOrEqual(19)
    expect(activity!.kernels.map(({ name }) => name)).toEqual(['own'])
    const { busy } = summariseRecorded(activity!, recording)
    // Of the run's time, not of the kernels': 5 of some 20 ms.
    expect(busy.spanNs).toBeCloseTo((recording.endedMs - recording.startedMs) * 1e6, -1)
    expect(busy.busyNs).toBe(5e6)
  })

  it('ends the recording when the run fails', async () => {
    const recorder = createRecorder()
    const failing = recordWork({ isOurs: () => true, recorder, run: () => Promise.reject(new Error('no')) })
    await expect(failing).rejects.toThrow('no')
    expect(recorder.calls).toEqual(['start', 'stop'])
  })

  it('needs no GPU', async () => {
    expect((await recordWork({ isOurs: () => true, run: () => wait(1) })).activity).toBeUndefined()
  })
})
