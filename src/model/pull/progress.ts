/** What a pull or an export tells while it runs. `receivedBytes` counts what is on disk already, resumed bytes included. */
export interface PullProgress {
  readonly file: string
  readonly receivedBytes: number
  readonly totalBytes?: number
  readonly phase: 'connect' | 'download' | 'verify' | 'unpack' | 'write'
}

export type OnPullProgress = (event: PullProgress) => void

export interface Progress {
  /** Smoothed; 0 until there is something to measure. */
  readonly bytesPerSecond: number
  /** Missing while the total or the rate is unknown. */
  readonly etaSeconds?: number
}

export interface ProgressMeter {
  update(receivedBytes: number, totalBytes?: number): Progress
}

// 3 s: long enough to read, short enough to follow a link that slows down.
const smoothingMs = 3000
// Chunks come every millisecond; a rate over less than this is noise.
const minIntervalMs = 100

/** Rate and remaining time of one transfer; bytes that were there at the first update do not count as speed.
 * @param nowMs a monotonic clock, in ms */
export function createProgressMeter(nowMs: () => number): ProgressMeter {
  let last: { timeMs: number; bytes: number } | undefined
  let rate: number | undefined
  return {
    update(receivedBytes, totalBytes) {
      const timeMs = nowMs()
      if (last === undefined || receivedBytes < last.bytes) {
        last = { timeMs, bytes: receivedBytes }
        rate = undefined
      }
      const elapsedMs = timeMs - last.timeMs
      if (elapsedMs >= minIntervalMs) {
        const momentary = ((receivedBytes - last.bytes) * 1000) / elapsedMs
        // Weighted by the time it stands for, so the result does not depend on how often update() is called.
        const weight = 1 - Math.exp(-elapsedMs / smoothingMs)
        rate = rate === undefined ? momentary : rate + (momentary - rate) * weight
        last = { timeMs, bytes: receivedBytes }
      }
      const bytesPerSecond = rate ?? 0
      if (totalBytes === undefined || bytesPerSecond <= 0) return { bytesPerSecond }
      return { bytesPerSecond, etaSeconds: Math.max(0, totalBytes - receivedBytes) / bytesPerSecond }
    },
  }
}
