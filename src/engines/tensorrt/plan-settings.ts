/** From the configuration's knobs to what decides on a plan. */
import type { Config } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import { type TacticSource, tacticSources } from '../../hardware/ffi/tensorrt/builder-config.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { canExport } from './onnx-source.ts'
import { type PlanPrecision, type PlanSettings, planPrecisions } from './plan.ts'
import { toProfiles } from './profiles.ts'

export type PlanKnobs = Pick<
  Config,
  | 'precision'
  | 'profiles'
  | 'profileTokens'
  | 'enginePerProfile'
  | 'tacticSources'
  | 'workspaceBytes'
  | 'builderOptimizationLevel'
  | 'embeddingTable'
>

/** @throws {EmbedError} CONFIG_INVALID */
export function toPlanSettings(
  knobs: PlanKnobs,
  spec: Pick<ModelSpec, 'maxTokens' | 'family' | 'files'>,
): PlanSettings {
  return {
    precision: toPlanPrecision(knobs.precision, spec),
    inputs: knobs.embeddingTable === 'host' ? 'embeddings' : 'ids',
    output: 'pooled',
    profiles: toProfiles(knobs.profiles, knobs.profileTokens, spec.maxTokens),
    enginePerProfile: knobs.enginePerProfile,
    tacticSources: parseTacticSources(knobs.tacticSources),
    workspaceBytes: knobs.workspaceBytes,
    builderOptimizationLevel: knobs.builderOptimizationLevel,
  }
}

/** By itself bf16, which has fp32's range and needs no calibration; an ONNX file of the user's is taken for fp32. */
function toPlanPrecision(
  precision: Config['precision'],
  spec: Pick<ModelSpec, 'family' | 'files'>,
): PlanPrecision {
  if (precision === 'auto') return canExport(spec) ? 'bf16' : 'fp32'
  const known = planPrecisions.find((each) => each === precision)
  if (known !== undefined) return known
  const reason = `precision is ${precision}; TensorRT takes ${planPrecisions.join(', ')}`
  throw new EmbedError('CONFIG_INVALID', { reason })
}

/** @throws {EmbedError} CONFIG_INVALID */
export function parseTacticSources(text: string): readonly TacticSource[] | 'default' {
  if (text.trim() === 'default') return 'default'
  const names = text.split(',').map((name) => name.trim().toUpperCase())
  const sources = tacticSources.filter((source) => names.includes(source))
  const unknown = names.find((name) => !tacticSources.includes(name as TacticSource))
  if (unknown !== undefined) {
    const reason = `tacticSources holds '${unknown}'; it takes default, or a list of ${tacticSources.join(', ')}`
    throw new EmbedError('CONFIG_INVALID', { reason })
  }
  return sources
}
