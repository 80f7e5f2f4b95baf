/** What a GPU does now: by NVML, or by a Jetson's files in /sys. */
import { throttleReasonBits } from '../ffi/nvml.ts'

/** What is not known is undefined: a slice of a GPU, an old driver, a Jetson. */
export interface GpuSample {
  /** 'GPU-…', or 'jetson' */
  readonly uuid: string
  /** Share of the last sample period in which a kernel ran, 0 to 1. */
  readonly utilisation: number | undefined
  readonly memoryUtilisation: number | undefined
  readonly usedBytes: number | undefined
  readonly totalBytes: number | undefined
  readonly clockMhz: number | undefined
  readonly memoryClockMhz: number | undefined
  readonly powerWatts: number | undefined
  readonly powerLimitWatts: number | undefined
  readonly temperatureCelsius: number | undefined
  /** Why the clock is not at its highest; empty where nothing holds it back. */
  readonly throttleReasons: readonly ThrottleReason[] | undefined
}

export type ThrottleReason = keyof typeof throttleReasonBits
export const throttleReasons = Object.keys(throttleReasonBits) as readonly ThrottleReason[]

/** Those that a person must do something about: cooling, or the power supply. */
export const troublingReasons: readonly ThrottleReason[] = [
  'hardware slowdown',
  'thermal limit',
  'hardware thermal limit',
  'power brake',
]

/** What cannot be read is left out. */
export function attempt<Result>(read: () => Result): Result | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
