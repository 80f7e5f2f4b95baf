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
  /** Of the precision: the engines that may be taken for it. */
  readonly engines?: readonly TunedEngine[]
}

export interface Stage {
  readonly name: string
  readonly knobs: readonly StageKnob[]
  /** Why nothing of it can be tried here; then `knobs` is empty. */
  readonly skipped?: string
}

/** The plan's order. */
const plan: Readonly<Record<string, readonly ConfigKey[]>> = {
  engine: ['engine'],
  precision: ['precision'],
  builder: ['builderOptimizationLevel', 'profileTokens', 'enginePerProfile'],
  tactics: ['tacticSources'],
  workspace: ['workspaceBytes'],
  // Host buffers are always pinned and there are two a stream: neither is a knob.
  memory: ['cudaGraphs', 'gpuWait', 'embeddingTable'],
  threads: ['threads'],
  streams: ['streams'],
  batching: ['maxBatchSize', 'maxBatchTokens', 'batchTimeoutMs', 'adaptiveBatching'],
}
export const stageNames: readonly string[] = Object.keys(plan)

const engineNames = ['onnx', 'openvino', 'tensorrt', 'cuda'] as const
export type TunedEngine = (typeof engineNames)[number]
const gpuEngines: ReadonlySet<string> = new Set(['tensorrt', 'cuda'])

/** Engines that read a knob; one that is not here is read by all. */
const enginesByKnob: Partial<Record<ConfigKey, readonly TunedEngine[]>> = {
  builderOptimizationLevel: ['tensorrt'],
  profileTokens: ['tensorrt'],
  enginePerProfile: ['tensorrt'],
  tacticSources: ['tensorrt'],
  workspaceBytes: ['tensorrt'],
  gpuWait: ['tensorrt', 'cuda'],
  embeddingTable: ['tensorrt'],
  cudaGraphs: ['tensorrt', 'cuda'],
  threads: ['onnx', 'openvino'],
  streams: ['onnx', 'openvino', 'tensorrt'],
}

/** What an engine computes at, the plain one first. fp16 overflows in some models and fp32 wastes a GPU's tensor cores:
 * the first is tried there, the second is not. */
const precisionsByEngine: Readonly<Record<TunedEngine, readonly string[]>> = {
  onnx: ['fp32'],
  openvino: ['fp32', 'bf16'],
  tensorrt: ['bf16', 'fp8', 'fp16'],
  cuda: ['bf16', 'fp8', 'fp8-rowwise'],
}

export interface Machine {
  readonly usableCores: number
  readonly hasGpu: boolean
}

/** The engines to try, the baseline's first.
 * @param isLarge too large for fp32 on a CPU   @param asked comma-separated
 * @throws {EmbedError} USAGE for a name that is no engine */
export function chooseEngines(machine: Machine, isLarge: boolean, asked?: string): readonly TunedEngine[] {
  if (asked !== undefined) {
    return asked.split(',').map((name) => assertKnown('engine', name, engineNames) as TunedEngine)
  }
  if (!machine.hasGpu) return ['onnx', 'openvino']
  return isLarge ? ['cuda', 'tensorrt'] : engineNames
}

/** @param only names of the stages wanted; default all
 * @throws {EmbedError} USAGE for a name that is no stage */
export function planStages(
  machine: Machine,
  engines: readonly TunedEngine[],
  only: readonly string[] = stageNames,
): Stage[] {
  for (const name of only) assertKnown('stage', name, stageNames)
  return stageNames
    .filter((name) => only.includes(name))
    .map((name) => {
      const keys = plan[name]!
      const readers = keys.flatMap((key) => enginesByKnob[key] ?? engineNames)
      if (!machine.hasGpu && readers.every((engine) => gpuEngines.has(engine))) {
        return { name, knobs: [], skipped: 'no NVIDIA GPU on this machine' }
      }
      const found = keys.flatMap((key) => toStageKnob(key, machine, engines))
      return found.length === 0
        ? { name, knobs: [], skipped: 'no knob of it has values to try here' }
        : { name, knobs: found }
    })
}

function assertKnown(kind: string, name: string, known: readonly string[]): string {
  if (known.includes(name)) return name
  const nearest = findNearestName(name, known)
  const hint = nearest === undefined ? '' : `; did you mean '${nearest}'?`
  throw new EmbedError('USAGE', { reason: `'${name}' is no ${kind}; there are ${known.join(', ')}${hint}` })
}

function toStageKnob(key: ConfigKey, machine: Machine, engines: readonly TunedEngine[]): StageKnob[] {
  const knob: Knob = knobs.find((each) => each.key === key)!
  const values =
    key === 'engine'
      ? engines
      : key === 'threads'
        ? toThreadCounts(machine.usableCores)
        : (knob.tunable ?? [])
  if (values.length < 2) return []
  return [{ key, values, byDefault: knob.default, ...(key === 'precision' ? { engines } : {}) }]
}

/** Half, all, and twice the cores: hyper-threads seldom help, and sometimes do. */
function toThreadCounts(usableCores: number): number[] {
  return [...new Set([Math.max(1, usableCores >> 1), usableCores, usableCores * 2])]
}

/** The knobs of a stage that the engine of these settings reads, with the values that it takes. */
export function knobsFor(stage: Stage, settings: Settings): StageKnob[] {
  const engine = settings.engine as TunedEngine | undefined
  if (engine === undefined || !engineNames.includes(engine)) return [...stage.knobs]
  return stage.knobs.flatMap((knob) => {
    const readers = enginesByKnob[knob.key]
    if (readers !== undefined && !readers.includes(engine)) return []
    if (knob.key !== 'precision') return [knob]
    const values = knob.values.filter(
      (value) => findEngineFor(String(value), engine, knob.engines) !== undefined,
    )
    return values.some((value) => value !== settings.precision) ? [{ ...knob, values }] : []
  })
}

/** The engine of now where it computes at the precision. One that has a single precision leaves it to another: at fp32 they may
 * be equally fast, and a lower precision would never be seen. */
function findEngineFor(
  precision: string,
  current: TunedEngine,
  engines: readonly TunedEngine[] = [],
): TunedEngine | undefined {
  const has = (engine: TunedEngine): boolean => precisionsByEngine[engine].includes(precision)
  if (has(current)) return current
  return precisionsByEngine[current].length === 1 ? engines.find(has) : undefined
}

/** What trying a value changes: another engine brings its plain precision where it has not the one of now, and a precision
 * the engine that has it. */
export function toChange({ key, engines }: StageKnob, value: KnobValue, settings: Settings): Settings {
  if (key === 'precision') {
    const current = settings.engine as TunedEngine
    const found = findEngineFor(String(value), current, engines)
    return (found === current ? { precision: value } : { engine: found, precision: value }) as Settings
  }
  if (key !== 'engine') return { [key]: value }
  const engine = value as TunedEngine
  const precisions = precisionsByEngine[engine]
  if (precisions.includes(settings.precision ?? '')) return { engine }
  return { engine, precision: precisions[0] } as Settings
}

/** The plain service: one text at a time at the engine's plain precision, and nothing that has to be found out. */
export function baselineSettings(machine: Machine, engine: TunedEngine = 'onnx'): Settings {
  return {
    engine,
    precision: precisionsByEngine[engine][0],
    ...(gpuEngines.has(engine) ? { cudaGraphs: 0 } : { threads: machine.usableCores }),
    ...(engine === 'cuda' ? {} : { streams: 1 }),
    maxBatchSize: 1,
    adaptiveBatching: true,
  } as Settings
}
