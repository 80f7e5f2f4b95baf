/** A plan on the GPU: its engine, its inputs and outputs by role, its profiles as the engine itself tells them. */
import { EmbedError, toReason } from '../../errors.ts'
import { MappedFile } from '../../hardware/ffi/mapped-file.ts'
import type { CudaEngine, EngineTensor, Runtime } from '../../hardware/ffi/tensorrt/runtime.ts'
import { type InputRole, matchPorts } from '../rectangular/model-ports.ts'
import type { Plan } from './plan.ts'
import type { ProfileLimits } from './profile-shapes.ts'

export interface PlanInput {
  readonly role: InputRole | 'embeddings'
  readonly name: string
  /** Of a cell: a token's id, or its row of the vocabulary table. */
  readonly cellBytes: number
  /** Sizes of a cell: none for a number, one for a row. */
  readonly cellShape: readonly number[]
}

export interface LoadedPlan {
  readonly plan: Plan
  readonly engine: CudaEngine
  readonly profiles: readonly ProfileLimits[]
  readonly inputs: readonly PlanInput[]
  readonly output: {
    readonly name: string
    readonly kind: 'tokens' | 'pooled'
    readonly dimensions: number
  }
  /** GPU memory that a run needs beside weights, inputs and outputs. */
  readonly contextBytes: number
}

/** Copies the weights to the GPU, off the event loop. @param hiddenSize of the model; 0: not known
 * @throws {EmbedError} ENGINE_UNAVAILABLE, FILE_UNREADABLE, TENSORRT_FAILED */
export async function loadPlan(runtime: Runtime, plan: Plan, hiddenSize: number): Promise<LoadedPlan> {
  const refuse = (reason: string, cause?: unknown) =>
    new EmbedError(
      'ENGINE_UNAVAILABLE',
      {
        engine: 'tensorrt',
        reason: `the plan ${plan.path}: ${reason}`,
        fix: "'akidb-embedding build' makes one for this machine and model",
      },
      { cause },
    )
  using file = new MappedFile(plan.path)
  const engine = await runtime.deserialize(file).catch((error: unknown) => {
    throw refuse(toReason(error), error)
  })
  try {
    const { contextBytes, tensors } = engine
    if (contextBytes === undefined) throw refuse('TensorRT 10.0 cannot share memory between contexts')
    const inputs = tensors.filter(({ mode }) => mode === 'input')
    const { ports, embeddings } = match(
      inputs,
      tensors.filter(({ mode }) => mode === 'output'),
      hiddenSize,
    )
    const { dimensions } = ports.output
    if (hiddenSize > 0 && dimensions !== hiddenSize) {
      throw refuse(`it gives ${dimensions} values a row, the model has ${hiddenSize}`)
    }
    const profiles = Array.from({ length: engine.profileCount }, (_, index) =>
      readProfile(engine, inputs[0]!.name, index),
    )
    const wrong = plan.profiles.findIndex((expected, i) => !isSame(expected, profiles[i]))
    if (wrong !== -1 || profiles.length < plan.profiles.length) {
      throw refuse('its profiles are not those it was filed under')
    }
    return {
      plan,
      engine,
      profiles,
      inputs: ports.inputs.map(({ role, name, elementBytes }) =>
        role === 'inputIds' && embeddings !== undefined
          ? embeddings
          : { role, name, cellBytes: elementBytes, cellShape: [] },
      ),
      output: ports.output,
      contextBytes,
    }
  } catch (error) {
    engine[Symbol.dispose]()
    throw error
  }
}

function match(inputs: readonly EngineTensor[], outputs: readonly EngineTensor[], hiddenSize: number) {
  // Rows of the vocabulary table stand where ids would.
  const rows = inputs.find(({ name }) => name === 'inputs_embeds')
  const ports = matchPorts(
    'tensorrt',
    inputs.map((input) =>
      input === rows
        ? { name: 'input_ids', elementBytes: 8 }
        : { name: input.name, elementBytes: integerBytes[input.type] ?? 0 },
    ),
    outputs.map(({ name, shape, type }) => ({ name, shape, isFloat32: type === 'fp32' })),
    hiddenSize,
  )
  if (rows === undefined) return { ports, embeddings: undefined }
  const rowSize = rows.shape.at(-1)!
  const embeddings: PlanInput = {
    role: 'embeddings',
    name: rows.name,
    cellBytes: rowSize * (rows.type === 'fp32' ? 4 : 2),
    cellShape: [rowSize],
  }
  return { ports, embeddings }
}

const integerBytes: Readonly<Partial<Record<EngineTensor['type'], number>>> = { int32: 4, int64: 8 }

function readProfile(engine: CudaEngine, input: string, index: number): ProfileLimits {
  const { min, opt, max } = engine.profileShapes(input, index)
  return {
    minBatch: min[0]!,
    minTokens: min[1]!,
    optBatch: opt[0]!,
    optTokens: opt[1]!,
    maxBatch: max[0]!,
    maxTokens: max[1]!,
  }
}

function isSame(expected: ProfileLimits, actual: ProfileLimits | undefined): boolean {
  if (actual === undefined) return false
  return (Object.keys(actual) as (keyof ProfileLimits)[]).every((key) => actual[key] === expected[key])
}
