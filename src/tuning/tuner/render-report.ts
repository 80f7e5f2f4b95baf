/** Blocks as Markdown, and as one HTML file that needs nothing else. */
import type { Block } from './report.ts'

export function renderMarkdown(title: string, blocks: readonly Block[]): string {
  return `${[`# ${title}`, ...blocks.map((block) => toMarkdown(block))].join('\n\n')}\n`
}

function toMarkdown(block: Block): string {
  if (block.kind === 'heading') return `## ${block.text}`
  if (block.kind === 'text') return block.text
  if (block.kind === 'table') return toMarkdownTable(block.head, block.rows)
  const rows = block.bars.map(({ label, text }) => [label, text])
  return `${block.title}:\n\n${toMarkdownTable(['', ''], rows)}`
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
<title>${escape(title)}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
  table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
  th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; font-variant-numeric: tabular-nums }
  svg text { font: 12px system-ui, sans-serif; fill: #222 } svg rect { fill: #2f6fb3 } svg rect.before { fill: #b9c4d0 }
  .PASS { color: #176b2c } .FAIL { color: #a11 }
</style>
<h1>${escape(title)}</h1>
${blocks.map((block) => toHtml(block)).join('\n')}
</html>
`
}

function toHtml(block: Block): string {
  if (block.kind === 'heading') return `<h2>${escape(block.text)}</h2>`
  if (block.kind === 'text') return `<p>${escape(block.text)}</p>`
  if (block.kind === 'bars') return toSvg(block)
  const rows = block.rows.map((row) => toHtmlRow('td', row))
  return `<table>\n${[toHtmlRow('th', block.head), ...rows].join('\n')}\n</table>`
}

function toHtmlRow(tag: 'td' | 'th', cells: readonly string[]): string {
  const html = cells.map((cell) => {
    const verdict = cell === 'PASS' || cell === 'FAIL' ? ` class="${cell}"` : ''
    return `<${tag}${verdict}>${escape(cell)}</${tag}>`
  })
  return `<tr>${html.join('')}</tr>`
}

const rowHeight = 22
const labelWidth = 260
const barWidth = 460

/** Horizontal bars; the last word of a label colours it: what was before is grey. */
function toSvg({ title, bars }: Extract<Block, { kind: 'bars' }>): string {
  const most = Math.max(...bars.map(({ value }) => value))
  const height = bars.length * rowHeight + 8
  const rows = bars.map(({ label, value, text }, i) => {
    const y = i * rowHeight + 4
    const width = most > 0 ? (value / most) * barWidth : 0
    const isBefore = /(baseline|untuned)$/.test(label)
    return `<text x="${labelWidth - 8}" y="${y + 14}" text-anchor="end">${escape(label)}</text><rect${isBefore ? ' class="before"' : ''} x="${labelWidth}" y="${y}" width="${width.toFixed(1)}" height="${rowHeight - 4}"/><text x="${(labelWidth + width + 6).toFixed(1)}" y="${y + 14}">${escape(text)}</text>`
  })
  return `<figure><figcaption>${escape(title)}</figcaption>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${labelWidth + barWidth + 80} ${height}" width="100%" role="img" aria-label="${escape(title)}">
${rows.join('\n')}
</svg></figure>`
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
