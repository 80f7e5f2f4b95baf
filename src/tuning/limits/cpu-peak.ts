/** How fast an engine multiplies on this CPU, measured: a graph of nothing but large products, run by the engine itself. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEngine } from '../../engines/create.ts'
import type { Engine } from '../../engines/engine.ts'
import { readCpu } from '../../hardware/machine/cpu.ts'
import { findOpenvinoLibrary } from '../../hardware/machine/openvino-library.ts'
import { narrow, toBytes } from '../../model/onnx/element-types.ts'
import { GraphBuilder, type OnnxGraph } from '../../model/onnx/graph-builder.ts'
import { writeOnnxModel } from '../../model/onnx/model-writer.ts'
import type { ModelSpec } from '../../model/spec.ts'

const width = 1024
const products = 8
/** Long enough that what is not a product does not count. */
const tokens = 512
const flops = 2 * tokens * width * width * products

export interface CpuPeakOptions {
  readonly threads: number
  /** Default 500 each precision. */
  readonly durationMs?: number
  /** Where OpenVINO may be; without it onnx alone is measured, at fp32. */
  readonly openvino: Parameters<typeof findOpenvinoLibrary>[0]
}

/** FLOPs a second by precision, the faster engine's. @throws {EmbedError} as the creators of the engines */
export async function measureCpuPeak(options: CpuPeakOptions): Promise<{ fp32: number; bf16?: number }> {
  const { threads, durationMs = 500 } = options
  const folder = await mkdtemp(join(tmpdir(), 'akidb-peak-'))
  try {
    const onnxPath = join(folder, 'products.onnx')
    await writeOnnxModel(buildProducts(), { irVersion: 8, opsetVersion: 17 }, onnxPath)
    const shared = { spec, onnxPath, threads, maxBatchSize: 1, maxBatchTokens: tokens }
    const onnx = await createEngine('onnx', { ...shared, precision: 'fp32' })
    const fp32 = await timeEngine(onnx, durationMs)
    const libraryPath = findOpenvinoLibrary(options.openvino).found?.path
    if (libraryPath === undefined) return { fp32 }
    const openvino = async (precision: 'fp32' | 'bf16'): Promise<number> =>
      timeEngine(await createEngine('openvino', { ...shared, libraryPath, precision }), durationMs)
    const best = { fp32: Math.max(fp32, await openvino('fp32')) }
    const hasBf16 = [...readCpu().features].some((feature) => feature.endsWith('BF16'))
    return hasBf16 ? { ...best, bf16: await openvino('bf16') } : best
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Of the fastest call: a pause of the machine is no property of it. */
async function timeEngine(engine: Engine, durationMs: number): Promise<number> {
  await using owned = engine
  const batch = { inputIds: new Int32Array(tokens), cumulativeLengths: Int32Array.of(0, tokens) }
  let bestNs = Infinity
  const startMs = performance.now()
  for (let calls = 0; calls < 3 || performance.now() - startMs < durationMs; calls++) {
    bestNs = Math.min(bestNs, Number((await owned.embed(batch, { exclusive: true })).inferenceNs))
  }
  return flops / (bestNs / 1e9)
}

/** A row of the table a token, then one square product after another. Neither engine may leave one out or join two: a
 * Relu stands between them. */
function buildProducts(): OnnxGraph {
  const graph = new GraphBuilder('products')
  graph.input('input_ids', 'int64', ['batch', 'sequence'])
  const table = graph.weight('table', [2, width], 'float', () => randomFloats(2 * width))
  let hidden = graph.node('Gather', [table, 'input_ids'], 'row')
  for (let i = 0; i < products; i++) {
    const weight = graph.weight(`weight.${i}`, [width, width], 'float', () => randomFloats(width * width))
    const output = i === products - 1 ? 'last_hidden_state' : `product.${i}`
    hidden = graph.node('MatMul', [hidden, weight], output)
    if (i < products - 1) hidden = graph.node('Relu', [hidden], `relu.${i}`)
  }
  graph.output('last_hidden_state', 'float', ['batch', 'sequence', width])
  return graph.build([])
}

async function* randomFloats(count: number): AsyncIterable<Uint8Array> {
  const scale = 2 / Math.sqrt(width)
  const values = Float32Array.from({ length: count }, () => (Math.random() - 0.5) * scale)
  yield toBytes(narrow(values, 'float'))
}

/** What the engines ask of a model: the product graph answers like an encoder. */
const spec: ModelSpec = {
  id: 'products',
  folder: '',
  architecture: 'bert',
  family: undefined,
  hiddenSize: width,
  layerCount: products,
  headCount: 1,
  keyValueHeadCount: 1,
  headSize: width,
  intermediateSize: width,
  vocabularySize: 2,
  maxTokens: tokens,
  padTokenId: 0,
  pooling: 'cls',
  normalize: true,
  dimensions: width,
  prompts: {},
  defaultPromptName: undefined,
  files: { config: '', tokenizer: '', weights: [], onnx: undefined },
  contentHash: '',
}
