/** The pictures of a report as inline SVG: no library, no script, nothing fetched. */
import type { Block } from './blocks.ts'
import { escapeHtml } from './escape-html.ts'

const rowHeight = 22
const labelWidth = 320
const plotWidth = 460

/** Horizontal bars. */
export function toBarsSvg({ title, bars }: Extract<Block, { kind: 'bars' }>): string {
  const most = Math.max(...bars.map(({ from = 0, value }) => Math.max(from, value)))
  const toWidth = (value: number): number => (most > 0 ? (value / most) * plotWidth : 0)
  const rows = bars.map(({ label, from = 0, value, text, isBefore = false }, i) => {
    const y = i * rowHeight + 4
    const [left, right] = [toWidth(Math.min(from, value)), toWidth(Math.max(from, value))]
    const start = `<text x="${labelWidth - 8}" y="${y + 14}" text-anchor="end">${escapeHtml(label)}</text>`
    const bar = `<rect${classOf(isBefore)} x="${(labelWidth + left).toFixed(1)}" y="${y}" width="${(right - left).toFixed(1)}" height="${rowHeight - 4}"/>`
    const end = `<text x="${(labelWidth + right + 6).toFixed(1)}" y="${y + 14}">${escapeHtml(text)}</text>`
    return `${start}${bar}${end}`
  })
  return toFigure(title, labelWidth + plotWidth + 130, bars.length * rowHeight + 8, rows)
}

const plotHeight = 240
const margin = { left: 60, right: 220, top: 12, bottom: 40 }
const ticks = 4

/** Lines from the origin's corner on, both axes from 0. */
export function toCurvesSvg({ title, x, y, curves }: Extract<Block, { kind: 'curves' }>): string {
  const points = curves.flatMap((curve) => curve.points)
  const steps = {
    x: toStep(Math.max(...points.map((point) => point.x))),
    y: toStep(Math.max(...points.map((point) => point.y))),
  }
  const most = { x: steps.x * ticks, y: steps.y * ticks }
  const toX = (value: number): number => margin.left + (value / most.x) * plotWidth
  const toY = (value: number): number => margin.top + plotHeight - (value / most.y) * plotHeight
  const right = margin.left + plotWidth
  const bottom = margin.top + plotHeight
  const grid = Array.from({ length: ticks + 1 }, (_, i) => {
    const [atX, atY] = [steps.x * i, steps.y * i]
    const line = `<line x1="${margin.left}" x2="${right}" y1="${toY(atY).toFixed(1)}" y2="${toY(atY).toFixed(1)}"/>`
    const left = `<text x="${margin.left - 6}" y="${(toY(atY) + 4).toFixed(1)}" text-anchor="end">${toTick(atY)}</text>`
    return `${line}${left}<text x="${toX(atX).toFixed(1)}" y="${bottom + 16}" text-anchor="middle">${toTick(atX)}</text>`
  })
  const names = [
    `<text x="${margin.left + plotWidth / 2}" y="${bottom + 34}" text-anchor="middle">${escapeHtml(x)}</text>`,
    `<text x="14" y="${margin.top + plotHeight / 2}" text-anchor="middle" transform="rotate(-90 14 ${margin.top + plotHeight / 2})">${escapeHtml(y)}</text>`,
  ]
  const lines = curves.map(({ points: own, isBefore = false }) => {
    const path = own.map((point) => `${toX(point.x).toFixed(1)},${toY(point.y).toFixed(1)}`).join(' ')
    return `<polyline${classOf(isBefore)} points="${path}"/>`
  })
  const dots = curves.flatMap(({ label, points: own, isBefore = false }) =>
    own.map((point) => {
      const [cx, cy] = [toX(point.x).toFixed(1), toY(point.y).toFixed(1)]
      const dot = `<circle${classOf(isBefore)} cx="${cx}" cy="${cy}" r="4"/>`
      // What was before is written to the left of its dot, so that neighbours do not cover each other.
      const place = isBefore
        ? `x="${(Number(cx) - 8).toFixed(1)}" text-anchor="end"`
        : `x="${(Number(cx) + 8).toFixed(1)}"`
      return `${dot}<text ${place} y="${(Number(cy) + 4).toFixed(1)}">${escapeHtml(`${label}, ${point.label}`)}</text>`
    }),
  )
  const width = margin.left + plotWidth + margin.right
  const height = margin.top + plotHeight + margin.bottom
  return toFigure(title, width, height, [...grid, ...names, ...lines, ...dots])
}

function classOf(isBefore: boolean): string {
  return isBefore ? ' class="before"' : ''
}

/** The smallest round step whose ticks reach the value. */
function toStep(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most / ticks))
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step * ticks >= most)!
}

function toTick(value: number): string {
  return String(Number(value.toPrecision(3)))
}

function toFigure(title: string, width: number, height: number, content: readonly string[]): string {
  return `<figure><figcaption>${escapeHtml(title)}</figcaption>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="100%" role="img" aria-label="${escapeHtml(title)}">
${content.join('\n')}
</svg></figure>`
}
