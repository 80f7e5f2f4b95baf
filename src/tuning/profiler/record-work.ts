/** Records host and GPU while something runs. */
import type { GpuActivity } from '../../hardware/gpu/activity.ts'
import type { ActivityRecorder } from '../../hardware/gpu/activity-recorder.ts'
import type { Provenance } from '../../telemetry/channels.ts'
import { cutActivity, type GpuProfile, summariseGpu, toWindow } from './gpu-profile.ts'
import { HostRecorder, type HostRecording } from './host-recorder.ts'

export interface WorkOptions {
  /** Which pipeline's work counts. */
  readonly isOurs: (message: Provenance) => boolean
  /** Of a GPU's engine. */
  readonly recorder?: Pick<ActivityRecorder, 'start' | 'stop'> | undefined
  readonly apiCalls?: boolean | undefined
  readonly run: () => Promise<void>
}

export interface RecordedWork {
  readonly recording: HostRecording
  /** What began while it ran. */
  readonly activity: GpuActivity | undefined
}

/** @throws {EmbedError} as ActivityRecorder.start and stop, and what `run` throws: nothing is recorded any more then */
export async function recordWork(options: WorkOptions): Promise<RecordedWork> {
  const { recorder, apiCalls = false } = options
  await recorder?.start({ apiCalls })
  try {
    using host = new HostRecorder(options.isOurs)
    await options.run()
    const recording = host.stop()
    const whole = await recorder?.stop()
    const activity =
      whole === undefined ? undefined : cutActivity(whole, recording.startedMs, recording.endedMs)
    return { recording, activity }
  } catch (error) {
    await recorder?.stop().catch(() => undefined)
    throw error
  }
}

export function summariseRecorded(
  activity: GpuActivity,
  { startedMs, endedMs }: Pick<HostRecording, 'startedMs' | 'endedMs'>,
): GpuProfile {
  return summariseGpu(activity, toWindow(activity, startedMs, endedMs))
}
