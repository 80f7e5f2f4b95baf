/** A profile for a terminal. */
import {
  formatBusyTime,
  formatKernelClasses,
  formatMemcpys,
  formatTimes,
  alignColumns,
} from './format-profile.ts'
import { formatGpuLoad } from './gpu-load.ts'
import type { GpuProfile } from './gpu-profile.ts'
import type { HostProfile } from './host-profile.ts'
import type { NodeProfile } from './node-summary.ts'
import { formatProductRate } from './product-rate.ts'
import type { EngineProfile } from './profile-engine.ts'

export interface FormatOptions {
  /** Rows of a table of kernels or nodes. Default 15. */
  readonly maxRows?: number
}

const noticeableOverlap = 1.02
/** The few long ones matter. */
const maxPauses = 5

export function formatEngineProfile(profile: EngineProfile, { maxRows = 15 }: FormatOptions = {}): string {
  const { engine, model, workload, clients, host, gpu, nodes } = profile
  return [
    `${model}, ${engine.name} ${engine.runtimeVersion} ${engine.precision} on ${engine.device}`,
    `${workload}, ${host.requests} requests, ${clients} at once`,
    '',
    ...formatHost(host),
    ...(gpu === undefined ? [] : ['', ...formatGpu(gpu, maxRows)]),
    ...(profile.gpuLoads ?? []).map(formatGpuLoad),
    ...(profile.products === undefined ? [] : ['', formatProductRate(profile.products)]),
    ...(nodes === undefined ? [] : ['', ...formatNodes(nodes, maxRows)]),
    '',
    ...formatFindings(profile),
  ].join('\n')
}

/** Criteria and advice, one a line. */
export function formatFindings({ criteria, advice }: Pick<EngineProfile, 'criteria' | 'advice'>): string[] {
  return [
    ...criteria.map(
      ({ name, value, target, isMet }) => `${isMet ? 'pass' : 'FAIL'}  ${name}: ${value} (${target})`,
    ),
    ...advice.map(({ text, reason }) => `next  ${text}; ${reason}`),
  ]
}

export function formatHost(host: HostProfile): string[] {
  const { engineBusy, eventLoopUtilisation, busyCores, batches, tokensPerBatch, paddingRatio } = host
  return [
    `${host.textsPerSecond.toFixed(1)} texts/s, ${host.tokensPerSecond.toFixed(0)} tokens/s`,
    `${batches} batches of ${tokensPerBatch.toFixed(0)} tokens, ${toPercent(paddingRatio)} of their cells are padding`,
    `engine busy ${toPercent(engineBusy.busyRatio)}, event loop ${toPercent(eventLoopUtilisation)}, ${busyCores.toFixed(1)} cores of work`,
    ...(host.droppedSpans === 0 ? [] : [`${host.droppedSpans} spans had no room: the table misses them`]),
    '',
    formatTimes(host.stages),
  ]
}

function formatGpu(gpu: GpuProfile, maxRows: number): string[] {
  return [
    formatBusyTime(gpu.busy),
    ...(gpu.overlapRatio < noticeableOverlap
      ? []
      : [
          `work overlaps: times add up to ${gpu.overlapRatio.toFixed(2)} x the busy time, those of kernels hold waiting`,
        ]),
    '',
    formatKernelClasses(gpu.classes),
    '',
    formatMemcpys(gpu.memcpys),
    '',
    formatTimes(gpu.kernels, maxRows),
    ...(gpu.pauses.length === 0
      ? []
      : ['', 'pauses, by what is before and after', formatTimes(gpu.pauses, maxPauses)]),
    ...(gpu.apiCalls.length === 0 ? [] : ['', formatTimes(gpu.apiCalls, maxRows)]),
  ]
}

function formatNodes({ classes, operations, nodes, ...ratios }: NodeProfile, maxRows: number): string[] {
  return [
    `nodes measured on an engine of their own: ${toPercent(ratios.measuredRatio)} of its time, which was ${ratios.overheadRatio.toFixed(2)} x that above a token`,
    '',
    alignColumns([
      ['Time %', 'Total us', 'Instances', 'Class'],
      ...classes.map(({ nodeClass, totalNs, instances, share }) => [
        (100 * share).toFixed(1),
        (totalNs / 1e3).toFixed(1),
        String(instances),
        nodeClass,
      ]),
    ]),
    '',
    formatTimes(operations, maxRows),
    '',
    formatTimes(
      nodes.map((row) => ({ ...row, name: `${row.name} (${row.operation})` })),
      maxRows,
    ),
  ]
}

function toPercent(share: number): string {
  return `${(100 * share).toFixed(0)} %`
}
