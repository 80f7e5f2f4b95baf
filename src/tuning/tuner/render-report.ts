/** Blocks as Markdown, and as one HTML file that needs nothing else. */
import type { Block } from './blocks.ts'
import { toBarsSvg, toCurvesSvg } from './report-svg.ts'
import { escapeHtml } from './escape-html.ts'

export function renderMarkdown(title: string, blocks: readonly Block[]): string {
  return `${[`# ${title}`, ...blocks.map((block) => toMarkdown(block))].join('\n\n')}\n`
}

function toMarkdown(block: Block): string {
  if (block.kind === 'heading') return `## ${block.text}`
  if (block.kind === 'text') return block.text
  if (block.kind === 'table') return toMarkdownTable(block.head, block.rows)
  if (block.kind === 'picture') return `${block.title}: see report.html.`
  if (block.kind === 'bars') {
    const rows = block.bars.map(({ label, text }) => [label, text])
    return `${block.title}:\n\n${toMarkdownTable(['', ''], rows)}`
  }
  const rows = block.curves.flatMap(({ label, points }) =>
    points.map((point) => [label, point.label, point.x.toFixed(1), point.y.toFixed(2)]),
  )
  return `${block.title}:\n\n${toMarkdownTable(['', 'with', block.x, block.y], rows)}`
}

function toMarkdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [toMarkdownRow(head), toMarkdownRow(head.map(() => '---')), ...rows.map(toMarkdownRow)].join('\n')
}

function toMarkdownRow(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
}

export function renderHtml(title: string, blocks: readonly Block[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
  table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
  th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; font-variant-numeric: tabular-nums }
  figure { margin: 1.5rem 0 } svg { max-width: 52rem; display: block } figcaption { font-weight: 600 }
  svg text { font: 12px system-ui, sans-serif; fill: #222 } svg rect, svg circle { fill: #2f6fb3 } svg polyline { stroke: #2f6fb3; fill: none; stroke-width: 2 }
  svg rect.before { fill: #b9c4d0 } svg circle.before { fill: #8796a5 } svg polyline.before { stroke: #b9c4d0 } svg line { stroke: #ddd }
  .PASS { color: #176b2c } .FAIL { color: #a11 }
</style>
<h1>${escapeHtml(title)}</h1>
${blocks.map((block) => toHtml(block)).join('\n')}
</html>
`
}

function toHtml(block: Block): string {
  if (block.kind === 'heading') return `<h2>${escapeHtml(block.text)}</h2>`
  if (block.kind === 'text') return `<p>${escapeHtml(block.text)}</p>`
  if (block.kind === 'picture')
    return `<figure><figcaption>${escapeHtml(block.title)}</figcaption>${block.svg}</figure>`
  if (block.kind === 'bars') return toBarsSvg(block)
  if (block.kind === 'curves') return toCurvesSvg(block)
  const rows = block.rows.map((row) => toHtmlRow('td', row))
  return `<table>\n${[toHtmlRow('th', block.head), ...rows].join('\n')}\n</table>`
}

function toHtmlRow(tag: 'td' | 'th', cells: readonly string[]): string {
  const html = cells.map((cell) => {
    const [word] = cell.split(' ')
    const verdict = word === 'PASS' || word === 'FAIL' ? ` class="${word}"` : ''
    return `<${tag}${verdict}>${escapeHtml(cell)}</${tag}>`
  })
  return `<tr>${html.join('')}</tr>`
}
