/** Requests, batches, API calls, streams and kernels on one time axis, in Chrome's trace format: ui.perfetto.dev and
 * chrome://tracing open it. @see "Trace Event Format", complete events (ph X) and metadata (ph M) */
import type { DeviceWork, GpuActivity, Interval } from '../../hardware/gpu/activity.ts'
import { groupBy } from './group-by.ts'
import { toLanes } from './lanes.ts'
import { nameMemcpy, nameMemset } from './pauses.ts'
import { type HostSpan, hostTracks, type ProfileRecords } from './records.ts'

export type TraceEvent =
  | {
      readonly ph: 'X'
      readonly name: string
      readonly pid: number
      readonly tid: number
      /** Microseconds since the first event. */
      readonly ts: number
      readonly dur: number
      readonly args: Readonly<Record<string, unknown>>
    }
  | {
      readonly ph: 'M'
      readonly name: 'process_name' | 'thread_name' | 'thread_sort_index'
      readonly pid: number
      readonly tid: number
      readonly args: Readonly<Record<string, unknown>>
    }

/** A row of the picture: what overlaps in it goes to further rows of the same name. */
interface Track {
  readonly process: string
  readonly name: string
  readonly slices: readonly Slice[]
}

interface Slice extends Interval {
  readonly name: string
  readonly args: Readonly<Record<string, unknown>>
}

/** The file's text, piece by piece: a whole one may be larger than a string can be. */
export function* formatTrace(records: ProfileRecords): Generator<string> {
  yield '{"displayTimeUnit":"ms","traceEvents":[\n'
  let separator = ''
  for (const event of toTraceEvents(records)) {
    yield separator + JSON.stringify(event)
    separator = ',\n'
  }
  yield '\n]}\n'
}

export function* toTraceEvents({ gpu, spans }: ProfileRecords): Generator<TraceEvent> {
  const tracks = [...hostTracksOf(spans), ...(gpu === undefined ? [] : gpuTracksOf(gpu))]
  const originNs = tracks
    .flatMap(({ slices }) => slices)
    .reduce((least, { startNs }) => Math.min(least, startNs), Number.POSITIVE_INFINITY)
  const processes = [...new Set(tracks.map(({ process }) => process))]
  for (const [i, name] of processes.entries()) {
    yield { ph: 'M', name: 'process_name', pid: i + 1, tid: 0, args: { name } }
  }
  let tid = 0
  for (const { process, name, slices } of tracks) {
    const pid = processes.indexOf(process) + 1
    for (const [row, lane] of toLanes(slices).entries()) {
      tid++
      yield {
        ph: 'M',
        name: 'thread_name',
        pid,
        tid,
        args: { name: row === 0 ? name : `${name} (${row + 1})` },
      }
      yield { ph: 'M', name: 'thread_sort_index', pid, tid, args: { sort_index: tid } }
      for (const slice of lane) {
        const [ts, dur] = [(slice.startNs - originNs) / 1e3, (slice.endNs - slice.startNs) / 1e3]
        yield { ph: 'X', name: slice.name, pid, tid, ts, dur, args: slice.args }
      }
    }
  }
}

function hostTracksOf(spans: readonly HostSpan[]): Track[] {
  return hostTracks.flatMap((track) => {
    const slices = spans
      .filter((span) => span.track === track)
      .map(({ name, startedMs, durationMs, details = {} }) => ({
        name,
        startNs: startedMs * 1e6,
        endNs: (startedMs + durationMs) * 1e6,
        args: details,
      }))
    return slices.length === 0 ? [] : [{ process: 'host', name: track, slices }]
  })
}

function gpuTracksOf({ startedMs, kernels, memcpys, memsets, apiCalls }: GpuActivity): Track[] {
  const toSlice = (name: string, { startNs, endNs }: Interval, args: Slice['args']): Slice => ({
    name,
    startNs: startNs + startedMs * 1e6,
    endNs: endNs + startedMs * 1e6,
    args,
  })
  const calls = [...groupBy(apiCalls, ({ threadId }) => threadId)].map(([threadId, own]) => ({
    process: 'host',
    name: `CUDA calls of thread ${threadId}`,
    slices: own.map((call) => toSlice(call.name, call, { correlation: call.correlationId })),
  }))
  const work = [
    ...kernels.map((kernel) => {
      const { name, grid, block, registersPerThread, staticSharedBytes, dynamicSharedBytes } = kernel
      const sharedBytes = staticSharedBytes + dynamicSharedBytes
      const launch = { grid: grid.join(' x '), block: block.join(' x '), registersPerThread, sharedBytes }
      return { of: kernel, slice: toSlice(name, kernel, { ...argsOf(kernel), ...launch }) }
    }),
    ...memcpys.map((copy) => ({
      of: copy,
      slice: toSlice(nameMemcpy(copy), copy, { ...argsOf(copy), bytes: copy.bytes }),
    })),
    ...memsets.map((fill) => ({
      of: fill,
      slice: toSlice(nameMemset(fill), fill, { ...argsOf(fill), bytes: fill.bytes }),
    })),
  ]
  const streams = groupBy(work, ({ of }) => `${of.deviceId} ${of.streamId}`)
  return [
    ...calls,
    ...[...streams.values()].map((own) => ({
      process: `GPU ${own[0]!.of.deviceId}`,
      name: `stream ${own[0]!.of.streamId}`,
      slices: own.map(({ slice }) => slice),
    })),
  ]
}

function argsOf({ correlationId, graph }: DeviceWork): Slice['args'] {
  return {
    correlation: correlationId,
    ...(graph === undefined ? {} : { graph: graph.id, node: graph.nodeId }),
  }
}
