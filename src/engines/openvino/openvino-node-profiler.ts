/** Times of a graph's nodes by OpenVINO's performance counters. They hold the mean of all runs since the model was
 * compiled, in whole microseconds: what a recording is about is the difference of two readings. */
import type { NodeProfiler, NodeTime } from '../engine.ts'
import type { RectangleRunner } from '../rectangular/rectangular-engine.ts'
import {
  EXECUTED,
  type Openvino,
  type OvInferRequest,
  type OvProfilingInfo,
  type OvProfilingInfoList,
} from '../../hardware/ffi/openvino.ts'
import { readStructs } from '../../hardware/ffi/library.ts'

/** @param request of a model compiled with PERF_COUNT, alone on it
 * @returns `runner` in place of the one given, which counts its runs */
export function createOpenvinoNodeProfiler(
  api: Openvino,
  request: OvInferRequest,
  runner: RectangleRunner,
): { readonly runner: RectangleRunner; readonly profiler: NodeProfiler } {
  let runs = 0
  let before: { readonly runs: number; readonly totalUs: ReadonlyMap<string, number> } | undefined
  const read = () => (runs === 0 ? [] : readCounters(api, request))
  return {
    runner: {
      ...runner,
      async run(batch, rectangle, readOutput) {
        await runner.run(batch, rectangle, readOutput)
        runs++
      },
    },
    profiler: {
      start() {
        before = { runs, totalUs: new Map(read().map((each) => [each.node_name, each.real_time * runs])) }
      },
      async stop() {
        const { runs: runsBefore, totalUs } = before!
        const ownRuns = runs - runsBefore
        if (ownRuns === 0) return []
        return read()
          .filter(({ status }) => status === EXECUTED)
          .flatMap(({ node_name: name, node_type: operation, exec_type: kernel, real_time }) => {
            const ownUs = real_time * runs - (totalUs.get(name) ?? 0)
            // Rounded down to whole microseconds each time: a short node may come out below nothing.
            const durationNs = (Math.max(0, ownUs) / ownRuns) * 1e3
            return Array.from({ length: ownRuns }, (): NodeTime => ({ name, operation, kernel, durationNs }))
          })
      },
    },
  }
}

function readCounters(api: Openvino, request: OvInferRequest): OvProfilingInfo[] {
  const found: Partial<OvProfilingInfoList> = {}
  api.ov_infer_request_get_profiling_info(request, found)
  const list = found as OvProfilingInfoList
  try {
    return readStructs<OvProfilingInfo>(list.profiling_infos, 'ov_profiling_info_t', list.size)
  } finally {
    api.ov_profiling_info_list_free(list)
  }
}
