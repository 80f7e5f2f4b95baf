/** TensorRT tells of phases within phases; people want a share and a time. */
import type { BuildProgress } from '../../hardware/ffi/tensorrt/progress-monitor.ts'

export interface BuildShare {
  /** In TensorRT's words. */
  readonly phase: string
  /** 0 to 1, never falling. */
  readonly ratio: number
  /** Undefined while too little is known. */
  readonly remainingMs: number | undefined
}

/** Before this share an estimate is guesswork. */
const minRatioForEstimate = 0.03

export interface BuildMeter {
  update(progress: BuildProgress): BuildShare
}

/** @param nowMs a monotonic clock, in ms */
export function createBuildMeter(nowMs: () => number = () => performance.now()): BuildMeter {
  const phases = new Map<string, BuildProgress>()
  const startedMs = nowMs()
  let ratio = 0
  /** A phase counts for one step of the phase around it. */
  const shareBelow = (parent: string | undefined): number => {
    const inner = [...phases.values()].filter((phase) => phase.parent === parent)
    return Math.max(
      0,
      ...inner.map(({ phase, steps, completedSteps, isDone }) =>
        isDone ? 1 : Math.min(1, (completedSteps + Math.min(shareBelow(phase), 0.99)) / Math.max(1, steps)),
      ),
    )
  }
  return {
    update(progress) {
      phases.set(progress.phase, progress)
      const share = shareBelow(undefined)
      if (progress.isDone) phases.delete(progress.phase)
      ratio = Math.max(ratio, share)
      const elapsedMs = nowMs() - startedMs
      return {
        phase: progress.phase,
        ratio,
        remainingMs: ratio < minRatioForEstimate ? undefined : (elapsedMs * (1 - ratio)) / ratio,
      }
    },
  }
}
