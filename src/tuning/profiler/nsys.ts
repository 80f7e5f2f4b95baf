/** Nsight Systems where it is installed and CUPTI may not be used (a Jetson): its summaries as our own tables. */
import { parse } from 'csv-parse/sync'
import { EmbedError } from '../../errors.ts'
import type { TimeSummaryRow } from './time-summary.ts'

export interface NsysTables {
  /** cuda_gpu_kern_sum */
  readonly kernels: readonly TimeSummaryRow[]
  /** cuda_api_sum */
  readonly apiCalls: readonly TimeSummaryRow[]
  /** cuda_gpu_mem_time_sum: copies and fills by direction */
  readonly memoryOperations: readonly TimeSummaryRow[]
}

/** Of `nsys`: records a command with its CUDA graphs node by node. @param report file without its suffix .nsys-rep */
export function nsysProfileArguments(report: string, command: readonly string[]): string[] {
  const trace = ['--trace=cuda', '--cuda-graph-trace=node', '--sample=none', '--cpuctxsw=none']
  return ['profile', '--force-overwrite=true', ...trace, `--output=${report}`, ...command]
}

/** Of `nsys`: prints the summaries that parseNsysStats reads. @param report file with its suffix */
export function nsysStatsArguments(report: string): string[] {
  const reports = ['cuda_gpu_kern_sum', 'cuda_api_sum', 'cuda_gpu_mem_time_sum']
  return [
    'stats',
    '--force-export=true',
    '--format=csv',
    '--output=-',
    `--report=${reports.join(',')}`,
    report,
  ]
}

/** @param text what `nsys stats` printed as CSV: one report or several, with its own words between them
 * @throws {EmbedError} FILE_FORMAT when there is none of the reports in it */
export function parseNsysStats(text: string): NsysTables {
  const tables = splitReports(text).map((table) => ({ table, head: Object.keys(table[0]!) }))
  const find = (count: string, name: string) =>
    tables
      .filter(({ head }) => head.includes(count) && head.includes(name))
      .flatMap(({ table }) => table.map((row) => toSummaryRow(row, count, name)))
  if (tables.length === 0) {
    // nsys says 'SKIPPED: ... does not contain CUDA kernel data.' in place of a table.
    const reason = /SKIPPED:[^\n]*/.exec(text)?.[0] ?? 'it holds no CSV with the columns of a CUDA summary'
    throw new EmbedError('FILE_FORMAT', { path: 'what nsys stats printed', reason })
  }
  return {
    kernels: find('Instances', 'Name'),
    apiCalls: find('Num Calls', 'Name'),
    memoryOperations: find('Count', 'Operation'),
  }
}

type CsvRow = Readonly<Record<string, string>>

/** A header starts a table, an empty line or the next report's announcement ends it. */
function splitReports(text: string): CsvRow[][] {
  const lines = text.split(/\r?\n/)
  return lines.flatMap((line, at) => {
    if (!/^"?Time \(%\)"?,"?Total Time \(ns\)"?,/.test(line)) return []
    const rest = lines.slice(at + 1)
    const length = rest.findIndex((each) => !/^"?[\d.]/.test(each))
    const rows = rest.slice(0, length === -1 ? rest.length : length)
    if (rows.length === 0) return []
    return [parse<CsvRow>([line, ...rows].join('\n'), { columns: true })]
  })
}

function toSummaryRow(row: CsvRow, count: string, name: string): TimeSummaryRow {
  // Some versions group digits by commas.
  const number = (column: string) => Number((row[column] ?? '0').replaceAll(',', ''))
  return {
    name: row[name]!,
    timePercent: number('Time (%)'),
    totalNs: number('Total Time (ns)'),
    instances: number(count),
    avgNs: number('Avg (ns)'),
    medNs: number('Med (ns)'),
    minNs: number('Min (ns)'),
    maxNs: number('Max (ns)'),
    stddevNs: number('StdDev (ns)'),
  }
}
