import { SingleBar } from 'cli-progress'
import {
  type Progress,
  type ProgressMeter,
  type PullProgress,
  createProgressMeter,
} from '../model/pull/progress.ts'

/** Stopping twice, or without ever having shown something, is fine. */
export interface ProgressLine {
  update(text: string): void
  stop(): void
}

export interface ProgressBar {
  update(event: PullProgress): void
  stop(): void
}

type Stream = NodeJS.WritableStream & { readonly isTTY?: boolean }

const logIntervalMs = 5000
const barLength = 24

/** Shows how a pull goes on: file, share, MB, rate and remaining time; a bar too on a terminal.
 * @param stream usually stderr, so that stdout stays clean
 * @param nowMs a monotonic clock, in ms */
export function createProgressBar(
  stream: Stream,
  nowMs: () => number = () => performance.now(),
): ProgressBar {
  const line = createProgressLine(stream, nowMs)
  const describe = createDescriber(nowMs)
  return {
    update: (event) => line.update(`${stream.isTTY === true ? toBar(event) : ''}${describe(event)}`),
    stop: () => line.stop(),
  }
}

/** One line of text that changes in place on a terminal and is gone after stop(); elsewhere a line at the start and
 * every 5 s, which stay.
 * @param nowMs a monotonic clock, in ms */
export function createProgressLine(
  stream: Stream,
  nowMs: () => number = () => performance.now(),
): ProgressLine {
  return stream.isTTY === true ? createTerminalLine(stream) : createLog(stream, nowMs)
}

function createTerminalLine(stream: NodeJS.WritableStream): ProgressLine {
  let text = ''
  let isStarted = false
  // No cursor hiding and no signal handlers: a process that is stopped hard leaves the terminal as it was.
  const bar = new SingleBar({
    stream,
    format: () => text,
    clearOnComplete: true,
    gracefulExit: false,
    fps: 10,
  })
  return {
    update(newText) {
      text = newText
      if (!isStarted) bar.start(1, 0)
      isStarted = true
      bar.update(0)
    },
    stop() {
      if (isStarted) bar.stop()
      isStarted = false
    },
  }
}

function createLog(stream: NodeJS.WritableStream, nowMs: () => number): ProgressLine {
  let writtenMs = Number.NEGATIVE_INFINITY
  return {
    update(text) {
      if (nowMs() - writtenMs < logIntervalMs) return
      writtenMs = nowMs()
      stream.write(`${text}\n`)
    },
    stop() {},
  }
}

function createDescriber(nowMs: () => number): (event: PullProgress) => string {
  let file: string | undefined
  let meter: ProgressMeter = createProgressMeter(nowMs)
  return (event) => {
    if (event.file !== file) meter = createProgressMeter(nowMs)
    ;({ file } = event)
    if (event.phase === 'connect') return `${file}: connecting`
    if (event.phase === 'verify') return `${file}: verifying`
    if (event.phase === 'unpack') return `${file}: unpacking ${toMegabytes(event.receivedBytes)} MB`
    return `${file}: ${toAmount(event, meter.update(event.receivedBytes, event.totalBytes))}`
  }
}

function toAmount(
  { receivedBytes, totalBytes }: PullProgress,
  { bytesPerSecond, etaSeconds }: Progress,
): string {
  const rate = `${toMegabytes(bytesPerSecond)} MB/s`
  if (totalBytes === undefined) return `${toMegabytes(receivedBytes)} MB, ${rate}`
  const amount = `${toPercent(receivedBytes, totalBytes)} % of ${toMegabytes(totalBytes)} MB, ${rate}`
  return etaSeconds === undefined ? amount : `${amount}, ${toDuration(etaSeconds)} left`
}

function toBar({ phase, receivedBytes, totalBytes }: PullProgress): string {
  if ((phase !== 'download' && phase !== 'write') || totalBytes === undefined) return ''
  const filled = Math.floor((toPercent(receivedBytes, totalBytes) / 100) * barLength)
  return `[${'='.repeat(filled)}${' '.repeat(barLength - filled)}] `
}

function toPercent(receivedBytes: number, totalBytes: number): number {
  return totalBytes === 0 ? 100 : Math.min(100, Math.floor((receivedBytes / totalBytes) * 100))
}

/** 90868376 -> '90.9' */
function toMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}

/** 4000 -> '1 h 7 min' */
export function toDuration(seconds: number): string {
  const whole = Math.ceil(seconds)
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
