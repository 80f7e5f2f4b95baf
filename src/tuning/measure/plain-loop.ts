/** What a developer writes first, to hold a baseline against: tokenise, onnxruntime-node's own `run`, pool, normalise, one text
 * after the other. Nothing of this package's engines, pipeline or batching. */
import type * as Onnxruntime from 'onnxruntime-node'
import { EmbedError } from '../../errors.ts'
import { ensureOnnx } from '../../model/onnx-file.ts'
import { type PullOptions, pullModel } from '../../model/pull.ts'
import { type ModelSpec, loadModelSpec } from '../../model/spec.ts'
import { createTokenizer } from '../../serving/tokenizer/worker-tokenizer.ts'
import type { LoadTarget } from './target.ts'
import { type CountTokens, createTokenCounter } from './workload.ts'

export interface PlainLoop extends AsyncDisposable {
  readonly spec: ModelSpec
  /** Of ONNX Runtime. */
  readonly runtimeVersion: string
  readonly countTokens: CountTokens
  readonly target: LoadTarget
  /** Text -> its vector, f32 [dimensions], L2-normalised. */
  embed(text: string): Promise<Float32Array>
}

/** @param model as for pullModel
 * @throws {EmbedError} as pullModel, loadModelSpec and ensureOnnx; ENGINE_UNAVAILABLE where the graph asks for more than ids */
export async function createPlainLoop(
  model: string,
  options: PullOptions & { readonly threads?: number | undefined },
): Promise<PlainLoop> {
  const pulled = await pullModel(model, options)
  const spec = await loadModelSpec(pulled.folder, { id: pulled.id, cacheDir: options.cacheDir })
  // Loaded here: a service beside it must not carry a second ONNX Runtime.
  const onnxruntime = await import('onnxruntime-node')
  const { threads } = options
  const session = await onnxruntime.InferenceSession.create(
    await ensureOnnx(spec, options.cacheDir),
    threads === undefined ? {} : { intraOpNumThreads: threads },
  )
  const other = session.inputNames.filter((name) => !plainInputs.has(name))
  if (other.length > 0) {
    await session.release()
    const reason = `a plain loop does not know the inputs ${other.join(', ')} of the ONNX file`
    const fix = 'the comparison with it is left out'
    throw new EmbedError('ENGINE_UNAVAILABLE', { engine: 'onnx', reason, fix })
  }
  const tokenizer = await createTokenizer({ tokenizerPath: spec.files.tokenizer, workerCount: 0 })
  const embed = async (text: string): Promise<Float32Array> => {
    const [encoded] = await tokenizer.encode([text], { maxTokens: spec.maxTokens, truncation: 'right' })
    return runOne(onnxruntime, session, encoded!.ids, spec.pooling)
  }
  return {
    spec,
    runtimeVersion: onnxruntime.env.versions.node ?? 'unknown',
    countTokens: createTokenCounter(tokenizer, spec.maxTokens),
    embed,
    target: {
      name: 'plain loop',
      async send({ texts }) {
        for (const text of texts) await embed(text)
      },
      readCounters: () => Promise.resolve(noCounters),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    async [Symbol.asyncDispose]() {
      await session.release()
      await tokenizer[Symbol.asyncDispose]()
    },
  }
}

const noCounters = {
  batches: undefined,
  inputs: undefined,
  paddingRatioSum: undefined,
  cpuSeconds: undefined,
  rssBytes: undefined,
}

const plainInputs: ReadonlySet<string> = new Set(['input_ids', 'attention_mask', 'token_type_ids'])

async function runOne(
  onnxruntime: typeof Onnxruntime,
  session: Onnxruntime.InferenceSession,
  ids: Int32Array,
  pooling: ModelSpec['pooling'],
): Promise<Float32Array> {
  const toTensor = (values: BigInt64Array): Onnxruntime.Tensor =>
    new onnxruntime.Tensor('int64', values, [1, ids.length])
  const values: Readonly<Record<string, BigInt64Array>> = {
    input_ids: BigInt64Array.from(ids, BigInt),
    attention_mask: new BigInt64Array(ids.length).fill(1n),
    token_type_ids: new BigInt64Array(ids.length),
  }
  const feeds = Object.fromEntries(session.inputNames.map((name) => [name, toTensor(values[name]!)]))
  const output = (await session.run(feeds))[session.outputNames[0]!]!
  const hidden = output.data as Float32Array
  return normalise(output.dims.length === 2 ? hidden : pool(hidden, ids.length, pooling))
}

/** @param hidden f32 [tokens, dimensions] */
function pool(hidden: Float32Array, tokens: number, pooling: ModelSpec['pooling']): Float32Array {
  const dimensions = hidden.length / tokens
  if (pooling === 'cls') return hidden.subarray(0, dimensions)
  if (pooling === 'last-token') return hidden.subarray(hidden.length - dimensions)
  const sums = new Float32Array(dimensions)
  for (let at = 0; at < hidden.length; at++) sums[at % dimensions]! += hidden[at]!
  return sums
}

function normalise(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
  return vector.map((value) => value / length)
}
