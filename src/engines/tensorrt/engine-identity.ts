/** Everything that decides on the bytes of a plan, and the key made of it: a plan under another key is never used. */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import type { GpuDevice } from '../../hardware/gpu/device.ts'
import type { TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import { type PlanSettings, planPrecisions, type Profile } from './plan.ts'

/** Raised when this package builds another engine from the same values. */
const buildVersion = 1

const profileSchema = Type.Object({
  name: Type.String(),
  minBatch: Type.Integer(),
  optBatch: Type.Integer(),
  maxBatch: Type.Integer(),
  minTokens: Type.Integer(),
  optTokens: Type.Integer(),
  maxTokens: Type.Integer(),
})

/** In the order that the key is made of. */
export const identitySchema = Type.Object({
  buildVersion: Type.Integer(),
  model: Type.String(),
  onnx: Type.String(),
  precision: Type.Enum([...planPrecisions]),
  inputs: Type.Enum(['ids', 'embeddings']),
  output: Type.Enum(['pooled', 'tokens']),
  profiles: Type.Array(profileSchema),
  tacticSources: Type.Array(Type.String()),
  workspaceBytes: Type.Integer(),
  builderOptimizationLevel: Type.Integer(),
  tensorrt: Type.String(),
  driver: Type.String(),
  cuda: Type.String(),
  gpu: Type.String(),
  computeCapability: Type.String(),
  multiprocessors: Type.Integer(),
})
export type EngineIdentity = Type.Static<typeof identitySchema>

/** The part that this machine decides on. */
const machineNames = ['tensorrt', 'driver', 'cuda', 'gpu', 'computeCapability', 'multiprocessors'] as const
export type MachineIdentity = Pick<EngineIdentity, (typeof machineNames)[number]>

export function toMachineIdentity({
  device,
  tensorrt,
  driverVersion,
  cudaVersion,
}: Pick<TensorrtMachine, 'tensorrt' | 'device' | 'driverVersion' | 'cudaVersion'>): MachineIdentity {
  const { major, minor } = device.computeCapability
  return {
    tensorrt: tensorrt.versionText,
    driver: driverVersion,
    cuda: cudaVersion,
    gpu: device.name,
    computeCapability: `${major}.${minor}`,
    multiprocessors: device.multiprocessorCount,
  }
}

/** @param onnxKey what decides on the ONNX file: the model's content and the options of the export
 * @param modelName for people; part of the path, not of the key */
export function toIdentity(
  modelName: string,
  onnxKey: string,
  settings: PlanSettings,
  machine: MachineIdentity,
): EngineIdentity {
  const { precision, inputs, output, profiles, tacticSources } = settings
  return {
    buildVersion,
    model: modelName,
    onnx: onnxKey,
    precision,
    inputs,
    output,
    profiles: [...profiles],
    tacticSources: tacticSources === 'default' ? ['default'] : [...tacticSources],
    workspaceBytes: settings.workspaceBytes,
    builderOptimizationLevel: settings.builderOptimizationLevel,
    ...machine,
  }
}

/** 32 hexadecimal digits. */
export function toKey(identity: EngineIdentity): string {
  const decisive = (Object.keys(identitySchema.properties) as (keyof EngineIdentity)[]).filter(
    (name) => name !== 'model' && name !== 'profiles',
  )
  const profileNames = Object.keys(profileSchema.properties) as (keyof Profile)[]
  const values = decisive.map((name) => [name, identity[name]])
  const profiles = identity.profiles.map((profile) => profileNames.map((name) => profile[name]))
  return createHash('sha256')
    .update(JSON.stringify([values, profiles]))
    .digest('hex')
    .slice(0, 32)
}

/** What an engine of another machine differs in, e.g. 'driver 580.65.06, here 590.10'; empty when it belongs here. */
export function describeDifferences(theirs: MachineIdentity, here: MachineIdentity): string[] {
  return machineNames
    .filter((name) => theirs[name] !== here[name])
    .map((name) => `${name} ${theirs[name]}, here ${here[name]}`)
}

/** For file names: 'sm90-132-nvidia-h200'. */
export function toChipName({ computeCapability, multiprocessorCount, name }: GpuDevice): string {
  const { major, minor } = computeCapability
  return `sm${major}${minor}-${multiprocessorCount}-${toFileName(name)}`
}

/** 'Qwen/Qwen3-Embedding-4B' -> 'qwen-qwen3-embedding-4b' */
export function toFileName(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 80)
}
