/** Whether TensorRT can run the model here: its libraries, a GPU, and plans of this model for both. */
import { join } from 'node:path'
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import { ensurePlans, type FindPlansOptions, findPlans } from '../../engines/tensorrt/ensure-plans.ts'
import { toOnnxSource } from '../../engines/tensorrt/onnx-source.ts'
import type { Plan, PlanPrecision } from '../../engines/tensorrt/plan.ts'
import { readPrebuiltPlan } from '../../engines/tensorrt/plan-check.ts'
import { toPlanSettings } from '../../engines/tensorrt/plan-settings.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { hasNvidiaDevice } from '../../hardware/machine/gpu.ts'
import { openTensorrt, type TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { StartOptions } from './start-pipeline.ts'

export interface TensorrtPlans {
  readonly machine: TensorrtMachine
  /** By precision, the fastest first; not empty. */
  readonly plansByPrecision: ReadonlyMap<PlanPrecision, readonly Plan[]>
}

/** What `precision: auto` looks for: the golden vectors decide which of them may serve. */
const fastestFirst = ['fp8', 'bf16', 'fp16', 'fp32'] as const

/** Undefined, with a note where that may surprise, when there is none and TensorRT was not asked for by name.
 * @throws {EmbedError} when it was: LIBRARY_NOT_FOUND, GPU_UNAVAILABLE, ENGINE_UNAVAILABLE with the command that builds
 * the plan, PLAN_UNUSABLE, and what a build throws */
export async function locateTensorrt(
  spec: ModelSpec,
  config: PipelineConfig,
  options: StartOptions,
  notes: string[],
): Promise<TensorrtPlans | undefined> {
  if (config.engine !== 'tensorrt' && (config.engine !== 'auto' || !hasNvidiaDevice())) return undefined
  try {
    const machine = await openTensorrt({
      search: options.cudaSearch ?? {},
      library: config.tensorrtLibrary,
      deviceId: config.deviceId,
    })
    return { machine, plansByPrecision: await collectPlans(spec, config, options, machine) }
  } catch (error) {
    if (config.engine === 'tensorrt') throw error
    notes.push(`tensorrt: ${toReason(error)}`)
    return undefined
  }
}

async function collectPlans(
  spec: ModelSpec,
  config: PipelineConfig,
  options: StartOptions,
  machine: TensorrtMachine,
): Promise<ReadonlyMap<PlanPrecision, readonly Plan[]>> {
  if (config.plan !== undefined) {
    const plan = await readPrebuiltPlan(config.plan, machine.tensorrt, spec.dimensions)
    return new Map([[plan.precision, [plan]]])
  }
  const wanted = await describeWanted(spec, config, options, machine)
  const found = new Map<PlanPrecision, readonly Plan[]>()
  const precisions = config.precision === 'auto' ? fastestFirst : [wanted.settings.precision]
  for (const precision of precisions) {
    const plans = await findOne(spec, { ...config, precision }, options, machine)
    if (plans !== undefined) found.set(precision, plans)
  }
  if (found.size > 0) return found
  if (config.buildEngines) {
    const { signal, onBuildProgress: onProgress } = options
    return new Map([[wanted.settings.precision, await ensurePlans({ ...wanted, signal, onProgress })]])
  }
  const { reasons } = await findPlans(wanted)
  throw new EmbedError('ENGINE_UNAVAILABLE', {
    engine: 'tensorrt',
    reason: reasons.join('; '),
    fix: `'akidb-embedding build ${config.model}' with the same flags builds it once, in minutes; --build-engines lets this start do it`,
  })
}

/** At precisions that `auto` only tries, what cannot be exported is not there. */
async function findOne(
  spec: ModelSpec,
  config: PipelineConfig,
  options: StartOptions,
  machine: TensorrtMachine,
): Promise<readonly Plan[] | undefined> {
  try {
    return (await findPlans(await describeWanted(spec, config, options, machine))).plans
  } catch (error) {
    if (error instanceof EmbedError) return undefined
    throw error
  }
}

async function describeWanted(
  spec: ModelSpec,
  config: PipelineConfig,
  { cacheDir }: StartOptions,
  machine: TensorrtMachine,
): Promise<FindPlansOptions> {
  const { scales } = config
  const source = await toOnnxSource(spec, toPlanSettings(config, spec), { cacheDir, scales })
  const cachePath = config.engineCachePath ?? join(cacheDir, 'engines')
  return { modelName: spec.id, ...source, machine, cachePath }
}
