/** TensorRT's inspector JSON as a list of layers: precision and kernel of each, and what became of the linear layers.
 *
 * 10.x gives `{ Layers: [{ Name, LayerType, Inputs: [{ Name, Dimensions, "Format/Datatype" }], Outputs, TacticName,
 * Metadata }] }`, with the names of the ONNX nodes in Metadata. Nothing of it is promised: what is missing reads ''. */
import { EmbedError, toReason } from '../../errors.ts'

export const layerPrecisions = ['fp8', 'int8', 'fp4', 'bf16', 'fp16', 'fp32', 'integer', 'unknown'] as const
export type LayerPrecision = (typeof layerPrecisions)[number]

export interface Layer {
  readonly name: string
  readonly type: string
  /** The kernel's name; '' where TensorRT tells none. */
  readonly tactic: string
  /** What it computes with: by the kernel's name, else by the lowest of its inputs. */
  readonly precision: LayerPrecision
  /** A matrix product. */
  readonly isGemm: boolean
  /** Fused attention. */
  readonly isAttention: boolean
  /** ONNX nodes that became this layer. */
  readonly nodes: readonly string[]
  /** Of the optimization profile that it belongs to. */
  readonly profile: number
}

export interface LayerSummary {
  readonly layers: number
  /** Each profile has its own kernels. */
  readonly profiles: number
  readonly gemms: number
  readonly gemmsByPrecision: Readonly<Partial<Record<LayerPrecision, number>>>
  readonly fusedAttentions: number
  /** Kernels with their number, the most frequent first. */
  readonly tactics: readonly (readonly [tactic: string, count: number])[]
}

type Json = Readonly<Record<string, unknown>>

/** @throws {EmbedError} PLAN_UNUSABLE when it is no JSON of an engine */
export function parseLayers(json: string): Layer[] {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (cause) {
    throw new EmbedError('PLAN_UNUSABLE', { path: 'inspected', reason: toReason(cause) }, { cause })
  }
  const layers = (value as { Layers?: unknown } | null)?.Layers
  if (!Array.isArray(layers)) {
    throw new EmbedError('PLAN_UNUSABLE', { path: 'inspected', reason: 'the inspector lists no layers' })
  }
  // A name alone where the engine was built without details.
  return layers.map((layer: unknown) =>
    toLayer(typeof layer === 'object' ? (layer as Json) : { Name: layer }),
  )
}

export function summariseLayers(layers: readonly Layer[]): LayerSummary {
  const gemms = layers.filter(({ isGemm }) => isGemm)
  const tactics = countBy(layers.map(({ tactic }) => tactic).filter((tactic) => tactic !== ''))
  return {
    layers: layers.length,
    profiles: new Set(layers.map(({ profile }) => profile)).size,
    gemms: gemms.length,
    gemmsByPrecision: Object.fromEntries(countBy(gemms.map(({ precision }) => precision))),
    fusedAttentions: layers.filter(({ isAttention }) => isAttention).length,
    tactics,
  }
}

export interface LinearLayer {
  /** The ONNX node. */
  readonly node: string
  /** Of the matrix product it became; 'unknown' when no layer of the engine names the node. */
  readonly precision: LayerPrecision
  readonly tactic: string
}

/** What the linear layers of the ONNX graph became, in all profiles: the highest precision counts, for one that fell back
 * in one profile has fallen back.
 * @param linearNodes ONNX nodes that multiply by weights */
export function findLinearLayers(layers: readonly Layer[], linearNodes: readonly string[]): LinearLayer[] {
  const byNode = new Map<string, Layer[]>()
  for (const layer of layers) {
    for (const node of layer.nodes) byNode.set(node, [...(byNode.get(node) ?? []), layer])
  }
  return linearNodes.map((node) => {
    const all = byNode.get(node) ?? []
    // What surrounds a product carries its name too; where no layer is a product it was fused into one of them.
    const products = all.filter(({ isGemm }) => isGemm)
    const [worst] = (products.length > 0 ? products : all).toSorted(
      (a, b) => rank(b.precision) - rank(a.precision),
    )
    return { node, precision: worst?.precision ?? 'unknown', tactic: worst?.tactic ?? '' }
  })
}

function rank(precision: LayerPrecision): number {
  return layerPrecisions.indexOf(precision)
}

function toLayer(json: Json): Layer {
  const name = text(json['Name'])
  const type = text(json['LayerType'])
  const tactic = text(json['TacticName'])
  const isAttention = /mha|fmha|flash|attention/i.test(`${tactic} ${type}`)
  const isGemm = !isAttention && (/gemm|matmul|cublas|cutlass.*gemm/i.test(tactic) || isProductType(type))
  return {
    name,
    type,
    tactic,
    precision: precisionOf(tactic) ?? precisionOfTensors(json['Inputs']) ?? 'unknown',
    isGemm,
    isAttention,
    nodes: readNodes(text(json['Metadata'])),
    // 'MatMul_34 [profile 1]_myl1_2'; fused kernels have the second part alone.
    profile: Number(/\[profile (\d+)\]|_myl(\d+)_\d+$/.exec(name)?.slice(1).find(Boolean) ?? 0),
  }
}

function isProductType(type: string): boolean {
  return /^(gemm|matmul|matrix_?multiply|fc|fullyconnected|MatrixMultiply)$/i.test(type)
}

/** 'sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_…': the first pair is what is multiplied. */
function precisionOf(tactic: string): LayerPrecision | undefined {
  const kinds: readonly (readonly [RegExp, LayerPrecision])[] = [
    [/e4m3|e5m2|fp8|_f8|qmma/i, 'fp8'],
    [/e2m1|fp4/i, 'fp4'],
    [/i8i8|int8|_s8|imma/i, 'int8'],
    [/bf16/i, 'bf16'],
    [/f16f16|fp16|_h\d|hmma|half|hgemm/i, 'fp16'],
    [/f32f32|tf32|fp32|sgemm/i, 'fp32'],
  ]
  return kinds.find(([pattern]) => pattern.test(tactic))?.[1]
}

function precisionOfTensors(inputs: unknown): LayerPrecision | undefined {
  if (!Array.isArray(inputs)) return undefined
  const kinds: readonly (readonly [RegExp, LayerPrecision])[] = [
    [/fp8|e4m3/i, 'fp8'],
    [/int8/i, 'int8'],
    [/fp4|e2m1/i, 'fp4'],
    [/bf16|bfloat/i, 'bf16'],
    [/fp16|half|float16/i, 'fp16'],
    [/fp32|float/i, 'fp32'],
    [/int|bool/i, 'integer'],
  ]
  const formats = inputs.map((input: unknown) => text((input as Json | null)?.['Format/Datatype']))
  return kinds.find(([pattern]) => formats.some((format) => pattern.test(format)))?.[1]
}

/** '[ONNX Layer: /a/MatMul]\x1e[ONNX Layer: /b/Add]' -> both names */
function readNodes(metadata: string): string[] {
  return [...metadata.matchAll(/ONNX Layer: ([^\]]+)/g)].map(([, node]) => node!.trim())
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function countBy<Value extends string>(values: readonly Value[]): [Value, number][] {
  const counts = new Map<Value, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].sort(([a, left], [b, right]) => right - left || a.localeCompare(b))
}
