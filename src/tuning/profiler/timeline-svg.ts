/** What the GPU did, as a picture: a row a stream, a colour a class of kernels, pauses left white. One SVG without script. */
import type { DeviceWork, GpuActivity, Interval } from '../../hardware/gpu/activity.ts'
import { groupBy } from './group-by.ts'
import { classifyKernel, type KernelClass } from './kernel-classes.ts'
import { toLanes } from './lanes.ts'
import { nameMemcpy, nameMemset } from './pauses.ts'

const plotWidth = 800
const labelWidth = 90
const rowHeight = 26
const legendWidth = 200
/** Pauses narrower than this cannot be seen: neighbours of one class become one rectangle. */
const leastPauseWidth = 0.5

const colours: Readonly<Record<KernelClass, string>> = {
  'FP8 GEMM': '#1b6e3c',
  'INT8 GEMM': '#3f8f4f',
  'BF16 GEMM': '#2f6fb3',
  'FP16 GEMM': '#5a8fc9',
  'FP32 GEMM': '#8a5bb0',
  'GEMM of unknown precision': '#6b7f8f',
  attention: '#d9822b',
  norm: '#c94f6d',
  elementwise: '#e3b23c',
  copy: '#555555',
  other: '#a0a0a0',
}

interface Box extends Interval {
  readonly kernelClass: KernelClass
  readonly name: string
  readonly count: number
}

/** @param activity one or a few batches: a whole recording is a bar of one colour */
export function toTimelineSvg(activity: GpuActivity): string {
  const boxes = listBoxes(activity)
  const originNs = boxes.reduce((least, { startNs }) => Math.min(least, startNs), Number.POSITIVE_INFINITY)
  const endNs = boxes.reduce((most, box) => Math.max(most, box.endNs), Number.NEGATIVE_INFINITY)
  const nsPerPixel = Math.max(1, endNs - originNs) / plotWidth
  const rows = [...groupBy(boxes, ({ stream }) => stream)].flatMap(([stream, own]) =>
    toLanes(own).map((lane, i) => ({ label: i === 0 ? stream : '', boxes: mergeNarrow(lane, nsPerPixel) })),
  )
  const toX = (ns: number) => (labelWidth + (ns - originNs) / nsPerPixel).toFixed(1)
  const drawn = rows.flatMap((row, i) => {
    const y = i * rowHeight + 4
    const label = `<text x="${labelWidth - 8}" y="${y + 14}" text-anchor="end">${escape(row.label)}</text>`
    const rectangles = row.boxes.map((box) => {
      const width = Math.max(0.2, (box.endNs - box.startNs) / nsPerPixel).toFixed(1)
      // An attribute of style: a report's style sheet has rules for all its rectangles.
      return `<rect x="${toX(box.startNs)}" y="${y}" width="${width}" height="${rowHeight - 6}" style="fill:${colours[box.kernelClass]}"><title>${escape(describe(box))}</title></rect>`
    })
    return [label, ...rectangles]
  })
  const classes = [...new Set(boxes.map(({ kernelClass }) => kernelClass))]
  const height = Math.max(rows.length * rowHeight, classes.length * 18) + 28
  const legend = classes.map((name, i) => {
    const [x, y] = [labelWidth + plotWidth + 16, 4 + i * 18]
    return `<rect x="${x}" y="${y}" width="12" height="12" style="fill:${colours[name]}"/><text x="${x + 18}" y="${y + 11}">${name}</text>`
  })
  const axis = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const ms = (part * (endNs - originNs)) / 1e6
    const x = labelWidth + part * plotWidth
    return `<text x="${x}" y="${height - 8}" text-anchor="middle">${boxes.length === 0 ? '' : `${ms.toFixed(ms < 10 ? 2 : 1)} ms`}</text>`
  })
  const width = labelWidth + plotWidth + legendWidth
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="100%" role="img" aria-label="Timeline of the GPU" font-family="system-ui, sans-serif" font-size="12">
${[...drawn, ...legend, ...axis].join('\n')}
</svg>`
}

function listBoxes({ kernels, memcpys, memsets }: GpuActivity): (Box & { readonly stream: string })[] {
  return [
    ...kernels.map((kernel) => toBox(kernel, kernel.name, classifyKernel(kernel.name))),
    ...memcpys.map((copy) => toBox(copy, nameMemcpy(copy), 'copy')),
    ...memsets.map((fill) => toBox(fill, nameMemset(fill), 'copy')),
  ].sort((a, b) => a.startNs - b.startNs)
}

function toBox(work: DeviceWork, name: string, kernelClass: KernelClass): Box & { readonly stream: string } {
  const { startNs, endNs, streamId } = work
  return { startNs, endNs, stream: `stream ${streamId}`, name, kernelClass, count: 1 }
}

function mergeNarrow(lane: readonly Box[], nsPerPixel: number): Box[] {
  const merged: Box[] = []
  for (const { startNs, endNs, kernelClass, name, count } of lane) {
    const last = merged.at(-1)
    const isTouching = last !== undefined && startNs - last.endNs < leastPauseWidth * nsPerPixel
    if (isTouching && last.kernelClass === kernelClass) {
      merged[merged.length - 1] = { ...last, endNs: Math.max(last.endNs, endNs), count: last.count + count }
    } else merged.push({ startNs, endNs, kernelClass, name, count })
  }
  return merged
}

function describe({ name, count, kernelClass, startNs, endNs }: Box): string {
  const what = count === 1 ? `${name} (${kernelClass})` : `${kernelClass}, ${count} in a row`
  return `${what}: ${((endNs - startNs) / 1e3).toFixed(1)} us`
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
