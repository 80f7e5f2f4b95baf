/** What is tried, in which order: the schema's `tunable` values, stage by stage. */
import { type ConfigKey, type Knob, knobs } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import { findNearestName } from '../../config/nearest-name.ts'
import type { Settings } from './side.ts'

export type KnobValue = string | number | boolean

export interface StageKnob {
  readonly key: ConfigKey
  /** Numbers ascend. */
  readonly values: readonly KnobValue[]
  /** What holds where the settings do not say. */
  readonly byDefault?: KnobValue | undefined
}

export interface Stage {
  readonly name: string
  readonly knobs: readonly StageKnob[]
  /** Why nothing of it can be tried here; then `knobs` is empty. */
  readonly skipped?: string
}

/** The plan's order. Keys that the schema does not have yet, or has without `tunable`, are left out. */
const plan: Readonly<Record<string, readonly string[]>> = {
  engine: ['engine'],
  precision: ['precision'],
  builder: ['builderOptimizationLevel', 'profiles'],
  tactics: ['tacticSources'],
  workspace: ['workspaceBytes'],
  threads: ['threads'],
  streams: ['streams'],
  batching: ['maxBatchSize', 'maxBatchTokens', 'batchTimeoutMs', 'adaptiveBatching'],
}
export const stageNames: readonly string[] = Object.keys(plan)
const tensorrtStages: ReadonlySet<string> = new Set(['builder', 'tactics', 'workspace'])

export interface Machine {
  readonly usableCores: number
  readonly hasGpu: boolean
}

/** @param only names of the stages wanted; default all
 * @throws {EmbedError} USAGE for a name that is no stage */
export function planStages(machine: Machine, only: readonly string[] = stageNames): Stage[] {
  for (const name of only) {
    if (stageNames.includes(name)) continue
    const nearest = findNearestName(name, stageNames)
    const hint = nearest === undefined ? '' : `; did you mean '${nearest}'?`
    throw new EmbedError('USAGE', {
      reason: `'${name}' is no stage; there are ${stageNames.join(', ')}${hint}`,
    })
  }
  return stageNames
    .filter((name) => only.includes(name))
    .map((name) => {
      if (tensorrtStages.has(name) && !machine.hasGpu) {
        return { name, knobs: [], skipped: 'no NVIDIA GPU on this machine' }
      }
      const found = plan[name]!.flatMap((key) => toStageKnob(key, machine))
      return found.length === 0
        ? { name, knobs: [], skipped: 'no knob of it has values to try here' }
        : { name, knobs: found }
    })
}

function toStageKnob(key: string, machine: Machine): StageKnob[] {
  const knob: Knob | undefined = knobs.find((each) => each.key === key)
  if (knob === undefined) return []
  const values = key === 'threads' ? toThreadCounts(machine.usableCores) : (knob.tunable ?? [])
  const usable = values.filter(
    (value) => machine.hasGpu || !['tensorrt', 'cuda', 'fp8', 'fp8-rowwise'].includes(String(value)),
  )
  return usable.length < 2 ? [] : [{ key: knob.key, values: usable, byDefault: knob.default }]
}

/** Half, all, and twice the cores: hyper-threads seldom help, and sometimes do. */
function toThreadCounts(usableCores: number): number[] {
  return [...new Set([Math.max(1, usableCores >> 1), usableCores, usableCores * 2])]
}

/** The plain service: the portable engine at full precision, one text at a time. */
export function baselineSettings(machine: Machine): Settings {
  return {
    engine: 'onnx',
    precision: 'fp32',
    threads: machine.usableCores,
    streams: 1,
    maxBatchSize: 1,
    adaptiveBatching: true,
  }
}
