/** Looks whether an engine is what it should be: its inputs, its output, the shapes of its profiles. */
import { EmbedError, toReason } from '../../errors.ts'
import { MappedFile } from '../../hardware/ffi/mapped-file.ts'
import {
  type CudaEngine,
  type EngineTensor,
  type PlanMemory,
  Runtime,
} from '../../hardware/ffi/tensorrt/runtime.ts'
import type { Tensorrt } from '../../hardware/ffi/tensorrt/tensorrt.ts'
import { parseLayers, summariseLayers } from './inspector.ts'
import type { Plan, PlanInputs, PlanOutput, PlanPrecision, Profile } from './plan.ts'
import { describeProfile } from './profiles.ts'

export interface EngineShape {
  readonly inputs: PlanInputs
  /** The first is the one to read. */
  readonly outputs: readonly PlanOutput[]
  readonly profiles: readonly Profile[]
  /** The last size of the first output. */
  readonly dimensions: number
}

const idsInputs = new Set(['input_ids', 'attention_mask', 'token_type_ids', 'position_ids'])

/** What an engine takes and gives, and its profiles, which it knows by number only.
 * @throws {EmbedError} PLAN_UNUSABLE when it is not that of a text encoder */
export function readEngineShape(path: string, engine: CudaEngine): EngineShape {
  const refuse = (reason: string) => new EmbedError('PLAN_UNUSABLE', { path, reason })
  const inputs = engine.tensors.filter(({ mode }) => mode === 'input')
  const names = inputs.map(({ name }) => name)
  const ids = inputs.find(({ name }) => name === 'input_ids' || name === 'inputs_embeds')
  const unknown = names.find((name) => name !== 'inputs_embeds' && !idsInputs.has(name))
  if (unknown !== undefined) throw refuse(`it wants an input '${unknown}'`)
  if (ids === undefined) throw refuse(`it has no input 'input_ids' among ${names.join(', ')}`)
  const integers = inputs.filter((input) => input.name !== 'inputs_embeds')
  const odd = integers.find(({ type }) => type !== 'int64' && type !== 'int32')
  if (odd !== undefined) throw refuse(`its input '${odd.name}' is ${odd.type}, not int64 or int32`)
  const outputs = listOutputs(engine)
  if (outputs.length === 0) throw refuse('it gives neither hidden states nor a sentence_embedding in f32')
  return {
    inputs: ids.name === 'input_ids' ? 'ids' : 'embeddings',
    outputs: outputs.map(({ kind }) => kind),
    dimensions: outputs[0]!.tensor.shape.at(-1)!,
    profiles: Array.from({ length: engine.profileCount }, (_, index) => {
      const { min, opt, max } = engine.profileShapes(ids.name, index)
      return {
        name: `profile_${index}`,
        minBatch: min[0]!,
        optBatch: opt[0]!,
        maxBatch: max[0]!,
        minTokens: min[1]!,
        optTokens: opt[1]!,
        maxTokens: max[1]!,
      }
    }),
  }
}

/** @throws {EmbedError} PLAN_UNUSABLE when it takes, gives or holds something else than `plan` says */
export function checkEngine(
  engine: CudaEngine,
  plan: Pick<Plan, 'path' | 'inputs' | 'output' | 'profiles'>,
): void {
  const shape = readEngineShape(plan.path, engine)
  const refuse = (what: string, found: unknown, wanted: unknown) =>
    new EmbedError('PLAN_UNUSABLE', {
      path: plan.path,
      reason: `its ${what} is ${String(found)}, wanted is ${String(wanted)}`,
    })
  if (shape.inputs !== plan.inputs) throw refuse('input', shape.inputs, plan.inputs)
  if (!shape.outputs.includes(plan.output)) throw refuse('output', shape.outputs, plan.output)
  const [found, wanted] = [describeShapes(shape.profiles), describeShapes(plan.profiles)]
  if (found !== wanted) throw refuse('list of profiles', found, wanted)
}

function describeShapes(profiles: readonly Profile[]): string {
  return profiles.map((profile) => describeProfile({ ...profile, name: '' }).trim()).join(', ')
}

/** A plan that the user brought: loaded once to see that this TensorRT takes it, and what it is.
 * @param dimensions of the model's vectors
 * @throws {EmbedError} PLAN_UNUSABLE, FILE_UNREADABLE */
export async function readPrebuiltPlan(path: string, tensorrt: Tensorrt, dimensions: number): Promise<Plan> {
  using file = new MappedFile(path)
  return await withEngine(path, file, tensorrt, (engine) => {
    const shape = readEngineShape(path, engine)
    if (shape.dimensions > 0 && shape.dimensions !== dimensions) {
      const reason = `its vectors have ${shape.dimensions} values, the model's have ${dimensions}`
      throw new EmbedError('PLAN_UNUSABLE', { path, reason })
    }
    const { inputs, outputs, profiles } = shape
    return {
      path,
      sizeBytes: file.bytes,
      precision: lowestPrecision(engine.inspect()),
      profiles,
      inputs,
      output: outputs[0]!,
      fromCache: false,
    }
  })
}

/** Loads a plan for as long as `run` takes. @throws {EmbedError} PLAN_UNUSABLE with TensorRT's words, what `run` throws */
export async function withEngine<Result>(
  path: string,
  plan: PlanMemory,
  tensorrt: Tensorrt,
  run: (engine: CudaEngine) => Result,
): Promise<Result> {
  using runtime = new Runtime(tensorrt)
  const engine = await runtime.deserialize(plan).catch((cause: unknown) => {
    const reason = toReason(cause)
    const isMemory = /out of memory|OutOfMemory|cudaMalloc/i.test(reason)
    const fix = isMemory ? { fix: 'stop what else uses the GPU' } : {}
    throw new EmbedError('PLAN_UNUSABLE', { path, reason, ...fix }, { cause })
  })
  return run(engine)
}

/** The outputs that can be read, as for every ONNX file: token by token before pooled. */
function listOutputs(engine: CudaEngine): { readonly kind: PlanOutput; readonly tensor: EngineTensor }[] {
  const floats = engine.tensors.filter(({ mode, type }) => mode === 'output' && type === 'fp32')
  const ofRank = (rank: number, kind: PlanOutput) =>
    floats.filter(({ shape }) => shape.length === rank).map((tensor) => ({ kind, tensor }))
  return [...ofRank(3, 'tokens'), ...ofRank(2, 'pooled')]
}

/** Of its matrix products: what the plan was built for. */
function lowestPrecision(layers: string): PlanPrecision {
  const { gemmsByPrecision } = summariseLayers(parseLayers(layers))
  return (
    (['fp8', 'bf16', 'fp16'] as const).find((precision) => (gemmsByPrecision[precision] ?? 0) > 0) ?? 'fp32'
  )
}
