import { describe, expect, it } from 'vitest'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'
import type { HostSpan, ProfileRecords } from './records.ts'
import { formatTrace, toTraceEvents, type TraceEvent } from './trace.ts'

/** A slice with the names of its rows, as the viewer shows it. */
function readTrace(records: ProfileRecords) {
  const events = [...toTraceEvents(records)]
  const nameOf = (kind: string, { pid, tid }: TraceEvent) =>
    events.find(
      (each) => each.name === kind && each.pid === pid && (kind === 'process_name' || each.tid === tid),
    )!.args['name']
  return events.flatMap((event) =>
    event.ph === 'X'
      ? [[nameOf('process_name', event), nameOf('thread_name', event), event.name, event.ts, event.dur]]
      : [],
  )
}

const span = (track: HostSpan['track'], startedMs: number, durationMs: number): HostSpan => ({
  track,
  name: track,
  startedMs,
  durationMs,
})

describe('a trace', () => {
  it('has requests, batches, calls, streams and kernels on one axis, from the first of them', () => {
    const gpu = makeActivity({
      startedMs: 5000,
      kernels: [makeKernel({ name: 'gemm', startNs: 3_000_000, endNs: 3_250_000, streamId: 13 })],
      memcpys: [makeMemcpy({ startNs: 2_900_000, endNs: 2_950_000, streamId: 14 })],
      apiCalls: [
        { name: 'cuGraphLaunch', startNs: 2_800_000, endNs: 2_810_000, threadId: 9, correlationId: 1 },
      ],
    })
    const spans = [span('batches', 5002.5, 1), span('requests', 5002, 2)]
    expect(readTrace({ gpu, spans })).toEqual([
      ['host', 'requests', 'requests', 0, 2000],
      ['host', 'batches', 'batches', 500, 1000],
      ['host', 'CUDA calls of thread 9', 'cuGraphLaunch', 800, 10],
      ['GPU 0', 'stream 13', 'gemm', 1000, 250],
      ['GPU 0', 'stream 14', 'memcpy pinned to device', 900, 50],
    ])
  })

  it('puts what overlaps into rows of its own, and what encloses into one', () => {
    const spans = [
      span('requests', 0, 10),
      span('requests', 5, 10),
      span('requests', 10, 3),
      span('requests', 15, 1),
    ]
    expect(readTrace({ gpu: undefined, spans }).map(([, row, , ts]) => [row, ts])).toEqual([
      ['requests', 0],
      ['requests', 10_000],
      ['requests', 15_000],
      ['requests (2)', 5000],
    ])
    // A runtime call makes a driver call.
    const call = { threadId: 9, correlationId: 1 }
    const apiCalls = [
      { ...call, name: 'cuLaunchKernel', startNs: 100, endNs: 200 },
      { ...call, name: 'cudaLaunchKernel', startNs: 0, endNs: 300 },
      { ...call, name: 'cuCtxSynchronize', startNs: 400, endNs: 500 },
    ]
    const rows = readTrace({ gpu: makeActivity({ apiCalls }), spans: [] })
    expect(rows.map(([, row, name]) => [row, name])).toEqual([
      ['CUDA calls of thread 9', 'cudaLaunchKernel'],
      ['CUDA calls of thread 9', 'cuLaunchKernel'],
      ['CUDA calls of thread 9', 'cuCtxSynchronize'],
    ])
  })

  it('tells of a slice what is known of it', () => {
    const kernel = makeKernel({ graph: { id: 4, nodeId: 5 }, staticSharedBytes: 8, dynamicSharedBytes: 16 })
    const spans = [{ ...span('batches', 0, 1), details: { tokens: 512 } }]
    const args = [...toTraceEvents({ gpu: makeActivity({ kernels: [kernel] }), spans })].flatMap((event) =>
      event.ph === 'X' ? [event.args] : [],
    )
    expect(args).toEqual([
      { tokens: 512 },
      {
        correlation: 1,
        graph: 4,
        node: 5,
        grid: '1 x 1 x 1',
        block: '128 x 1 x 1',
        registersPerThread: 32,
        sharedBytes: 24,
      },
    ])
  })

  it('is JSON', () => {
    const records = { gpu: makeActivity({ kernels: [makeKernel({ name: 'a "b"' })] }), spans: [] }
    const parsed = JSON.parse([...formatTrace(records)].join('')) as { traceEvents: unknown }
    expect(parsed).toEqual({ displayTimeUnit: 'ms', traceEvents: [...toTraceEvents(records)] })
    expect(JSON.parse([...formatTrace({ gpu: undefined, spans: [] })].join(''))).toMatchObject({
      traceEvents: [],
    })
  })
})
