/** What fp8 must know of the activations: the largest value that goes into each linear layer. */
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../errors.ts'
import { readJsonFile } from './json-file.ts'
import { maxFloat8 } from './onnx/element-types.ts'
import type { ModelSpec } from './spec.ts'

const calibrated = Type.Object({
  kind: Type.Literal('calibrated'),
  /** ModelSpec.contentHash */
  modelHash: Type.String(),
  /** SHA-256 of the texts, and how many there were. */
  textsHash: Type.String(),
  textCount: Type.Integer({ minimum: 1 }),
  tokenCount: Type.Integer({ minimum: 1 }),
  /** The runtime that ran them, with version and precision. */
  madeBy: Type.String(),
  /** What an unseen text may exceed the largest value by. */
  margin: Type.Number({ minimum: 1 }),
  /** By linear layer, e.g. 'layer.0.attention.qkv'. */
  amax: Type.Record(Type.String(), Type.Number({ minimum: 0 })),
})
const fixed = Type.Object({
  /** One scale for all, as benchmarks with synthetic weights use; real vectors suffer from it. */
  kind: Type.Literal('fixed'),
  scale: Type.Number({ exclusiveMinimum: 0 }),
})
const schema = Type.Union([calibrated, fixed])

export type CalibratedScales = Static<typeof calibrated>
export type ActivationScales = Static<typeof schema>

/** Where the measured scales of a model are kept. */
export function scalesPath(cacheDir: string, { contentHash }: Pick<ModelSpec, 'contentHash'>): string {
  return join(cacheDir, 'scales', `${contentHash}.json`)
}

/** @param source a file, or 'fixed:0.05'
 * @throws {EmbedError} FILE_UNREADABLE, MODEL_FILE_CORRUPT (not such a file), SCALES_INVALID (none there, or of another model) */
export async function loadActivationScales(source: string, modelHash: string): Promise<ActivationScales> {
  const refuse = (reason: string) => new EmbedError('SCALES_INVALID', { source, reason })
  if (source.startsWith('fixed:')) {
    const scale = Number(source.slice('fixed:'.length))
    if (!(scale > 0 && scale < Infinity)) throw refuse('a fixed scale is a number above 0, as in fixed:0.05')
    return { kind: 'fixed', scale }
  }
  const scales = await readJsonFile(source, schema)
  if (scales === undefined) {
    throw refuse("there is no such file; 'akidb-embedding export --precision fp8' measures them")
  }
  if (scales.kind === 'calibrated' && scales.modelHash !== modelHash) {
    const [theirs, ours] = [scales.modelHash, modelHash].map((hash) => hash.slice(0, 12))
    throw refuse(`they were measured on the model ${theirs}, this one is ${ours}; measure them anew`)
  }
  return scales
}

/** What a layer's input is divided by before it becomes E4M3.
 * @throws {EmbedError} SCALES_INVALID (the layer was not measured) */
export function inputScale(scales: ActivationScales, layer: string): number {
  if (scales.kind === 'fixed') return scales.scale
  const amax = scales.amax[layer]
  if (amax === undefined) {
    const reason = `they know no layer '${layer}'; measure them anew`
    throw new EmbedError('SCALES_INVALID', { source: scales.madeBy, reason })
  }
  // A layer that only ever saw zeros.
  return amax === 0 ? 1 : (amax * scales.margin) / maxFloat8
}
