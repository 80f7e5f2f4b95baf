/** Criteria and advice for whatever was recorded of an engine. */
import { type Advice, adviseGpu } from './advice.ts'
import { type Criterion, judgeGpu } from './criteria.ts'
import type { GpuProfile } from './gpu-profile.ts'
import { adviseHost, judgeHost, judgeNodes, type ProfiledEngine } from './host-criteria.ts'
import type { HostProfile } from './host-profile.ts'
import type { NodeProfile } from './node-summary.ts'

export interface Assessment {
  readonly criteria: readonly Criterion[]
  /** Kernels before the host; the one that could win most first. */
  readonly advice: readonly Advice[]
}

export interface Measured extends ProfiledEngine {
  readonly host: HostProfile
  readonly gpu?: GpuProfile | undefined
  readonly nodes?: NodeProfile | undefined
}

export function assessProfile(measured: Measured): Assessment {
  const { precision, host, gpu, nodes } = measured
  const batch = { precision, tokensPerBatch: host.tokensPerBatch }
  return {
    criteria: [
      ...judgeHost(host),
      ...(gpu === undefined ? [] : judgeGpu(gpu, batch)),
      ...(nodes === undefined ? [] : judgeNodes(nodes, measured)),
    ],
    advice: [...(gpu === undefined ? [] : adviseGpu(gpu, batch)), ...adviseHost(host, measured, nodes)],
  }
}
