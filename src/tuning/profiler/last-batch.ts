/** The last batch of a recording as a picture: a whole recording would be a bar of one colour. */
import { cutActivity } from './gpu-profile.ts'
import type { ProfileRecords } from './records.ts'
import { toTimelineSvg } from './timeline-svg.ts'

/** The clocks of CPU and GPU agree to some microseconds. */
const slackMs = 0.1

/** @returns an SVG element; undefined where no GPU was recorded, or nothing of it in that batch */
export function drawLastBatch({ gpu, spans }: ProfileRecords): string | undefined {
  const batch = spans.findLast(({ track }) => track === 'batches')
  if (gpu === undefined || batch === undefined) return undefined
  const { startedMs, durationMs } = batch
  const own = cutActivity(gpu, startedMs - slackMs, startedMs + durationMs + slackMs)
  return own.kernels.length === 0 ? undefined : toTimelineSvg(own)
}
