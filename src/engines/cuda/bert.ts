/** BERT and RoBERTa: LayerNorm after each residual, attention both ways, GELU. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { EncoderShape } from '../../model/onnx/encoder-graph.ts'
import { EmbedError } from '../../errors.ts'
import { Activations, type ForwardContext, type ForwardPass, toRowOutput } from './forward-pass.ts'
import type { LinearWeights } from './gpu-weights.ts'
import { loadEmbedding } from './kernels/embedding.ts'
import { loadFlashAttention } from './kernels/flash-attention.ts'
import { loadGelu } from './kernels/gelu.ts'
import { bertAttention } from './kernels/kernel-set.ts'
import { loadPooling } from './kernels/pooling.ts'
import { loadAttendedQuantizer } from './kernels/quantize-rows.ts'
import { loadResidualLayernorm } from './kernels/residual-layernorm.ts'
import type { LinearCall, LinearInput } from './linear-layers.ts'
import { loadPooledRows, pooledTokenOf, type RemainingRows } from './pooled-rows.ts'

interface Norm {
  readonly gamma: DevicePointer
  readonly beta: DevicePointer
}

interface Layer {
  readonly qkv: LinearWeights
  readonly qkvInput: LinearInput
  readonly dense: LinearWeights
  readonly denseInput: LinearInput
  readonly attentionNorm: Norm
  readonly up: LinearWeights
  readonly upInput: LinearInput
  readonly down: LinearWeights
  readonly downInput: LinearInput
  readonly outputNorm: Norm
}

/** Loads kernels and weights.
 * @throws {EmbedError} ENGINE_UNAVAILABLE (a form it does not compute), MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID,
 *   GPU_OUT_OF_MEMORY, SCALES_INVALID, KERNEL_NOT_COMPILED */
export async function loadBert(shape: EncoderShape, context: ForwardContext): Promise<ForwardPass> {
  refuseUncomputed(shape)
  const { loader, linear, precision, pooling, weights, gpuWeights } = context
  const { hiddenSize, intermediateSize, headSize, headCount, layerNormEpsilon: epsilon } = shape
  const attentionSize = headCount * headSize
  const ofHidden = { rowSize: hiddenSize, output: precision }
  const embedding = await loadEmbedding(loader, { ...ofHidden, layernorm: { epsilon } })
  const heads = { heads: headCount, kvHeads: headCount, headSize }
  const attention = await loadFlashAttention(loader, bertAttention(heads, precision))
  const quantizer = await loadAttendedQuantizer(loader, precision, attentionSize)
  const isRowwise = precision === 'fp8-rowwise'
  const layernorm = await loadResidualLayernorm(loader, { ...ofHidden, epsilon })
  const gelu = await loadGelu(loader, {
    rowSize: intermediateSize,
    output: precision,
    approximate: shape.activation !== 'gelu',
  })
  const pool = await loadPooling(loader, { rowSize: hiddenSize, pooling })

  const activations = new Activations(context, {
    largestInner: Math.max(hiddenSize, attentionSize, intermediateSize),
    rows: context.maxPassTokens,
  })
  const hidden = activations.buffer('hidden', hiddenSize)
  const [qkv, attended, delta, raised] = [
    activations.buffer('queries, keys, values', 3 * attentionSize),
    activations.buffer('attended', attentionSize),
    activations.buffer('delta', hiddenSize),
    activations.buffer('raised', intermediateSize),
  ]
  // bf16 rows for the products; FP8 has one buffer for all. GELU may write where it reads.
  const active = raised
  const tables = await loadTables(shape, context)
  const layers: Layer[] = []
  for (let i = 0; i < shape.layerCount; i++) layers.push(await loadLayer(i))

  async function loadLayer(index: number): Promise<Layer> {
    const [stored, at] = [`encoder.layer.${index}`, `layer.${index}`]
    const names = shape.attentionNames
    const linearOf = async (parts: readonly string[], outputs: number, inner: number) =>
      gpuWeights.linear(
        parts.map((part) => weights.get(`${stored}.${part}.weight`, [outputs, inner])),
        parts.map((part) => weights.get(`${stored}.${part}.bias`, [outputs])),
      )
    const normOf = async (name: string) => loadNorm(`${stored}.${name}`, hiddenSize, context)
    const queryKeyValue = [names.query, names.key, names.value].map((name) => `attention.${name}`)
    return {
      qkv: await linearOf(queryKeyValue, attentionSize, hiddenSize),
      qkvInput: await activations.inputOf(`${at}.attention.qkv`, hidden),
      dense: await linearOf([`attention.${names.output}`], hiddenSize, attentionSize),
      denseInput: await activations.inputOf(`${at}.attention.dense`, attended),
      attentionNorm: await normOf(`attention.${names.layerNorm}`),
      up: await linearOf(['intermediate.dense'], intermediateSize, hiddenSize),
      upInput: await activations.inputOf(`${at}.up`, hidden),
      down: await linearOf(['output.dense'], hiddenSize, intermediateSize),
      downInput: await activations.inputOf(`${at}.down`, active),
      outputNorm: await normOf('output.LayerNorm'),
    }
  }

  const all = (rows: number): RemainingRows => ({
    rows,
    hidden,
    attended: isRowwise ? attended : layers[0]!.denseInput.values,
  })
  const pooled = await loadPooledRows(context, activations, {
    hiddenSize,
    attentionBytes: attentionSize * (precision === 'fp8' ? 1 : 2),
    room: qkv,
  })
  const qkvCallOf = (layer: Layer, rows: number): LinearCall => ({
    rows,
    input: layer.qkvInput,
    output: qkv,
  })
  /** bf16 is read where it lies, E4M3 where it was quantised to. */
  const from = (input: LinearInput, values: DevicePointer): LinearInput =>
    precision === 'bf16' ? { ...input, values } : input
  /** The products after the attention, in order; GELU adds the bias of the second, in f32. */
  const callsOf = (layer: Layer, of: RemainingRows): readonly [LinearCall, LinearCall, LinearCall] => {
    const { rows } = of
    const denseInput = isRowwise ? layer.denseInput : { ...layer.denseInput, values: of.attended }
    return [
      { rows, input: denseInput, output: delta },
      { rows, input: from(layer.upInput, of.hidden), output: raised, withBias: false },
      { rows, input: layer.downInput, output: delta },
    ]
  }
  /** @param next reads the layer's output; after the last one nobody does */
  const enqueueAfterAttention = (
    stream: GpuStream,
    layer: Layer,
    { of, next }: { readonly of: RemainingRows; readonly next: Layer },
  ): void => {
    const { rows, hidden: residual } = of
    const [denseCall, upCall, downCall] = callsOf(layer, of)
    quantizer?.quantize(stream, { rows, input: of.attended, ...toRowOutput(layer.denseInput) })
    linear.launch(stream, layer.dense, denseCall)
    const attentionNorm = { ...layer.attentionNorm, ...toRowOutput(upCall.input) }
    layernorm(stream, { rows, hidden: residual, delta, ...attentionNorm })
    linear.launch(stream, layer.up, upCall)
    gelu(stream, { rows, input: raised, bias: layer.up.bias!, ...toRowOutput(layer.downInput) })
    linear.launch(stream, layer.down, downCall)
    const output = toRowOutput(from(next.qkvInput, residual))
    layernorm(stream, { rows, hidden: residual, delta, ...layer.outputNorm, ...output })
  }

  return {
    isCausal: false,
    activationBytes: activations.bytes,
    attentionQueries: attention.queries,
    firstPosition: (shape.positionsAfterPadTokenId ?? -1) + 1,
    pooledToken: pooledTokenOf(pooling),
    sharesPrefix: false,
    products: (batch) => {
      const layer = layers[0]!
      const weightsOf = [layer.dense, layer.up, layer.down]
      const rows = [batch.rows, pooled?.countOf(batch) ?? []].flat()
      return [
        { weights: layer.qkv, call: qkvCallOf(layer, batch.rows) },
        ...rows.flatMap((each) =>
          callsOf(layer, all(each)).map((call, i) => ({ weights: weightsOf[i]!, call })),
        ),
      ]
    },
    enqueue: (stream, batch) => {
      const { rows, ids, positions } = batch
      const { word, ...layernormOf } = tables
      const first = layers[0]!
      embedding(stream, {
        rows,
        ids,
        word,
        hidden,
        layernorm: { ...layernormOf, positions },
        ...toRowOutput(first.qkvInput),
      })
      const isPooledEarly = pooled?.countOf(batch) !== undefined
      let remaining = all(rows)
      for (const [i, layer] of layers.entries()) {
        linear.launch(stream, layer.qkv, qkvCallOf(layer, rows))
        const isLast = isPooledEarly && layer === layers.at(-1)
        attention.launch(stream, {
          qkv,
          ...toRowOutput({ ...layer.denseInput, values: remaining.attended }),
          ...(isLast
            ? { tiles: batch.pooled!.tiles, tileCount: batch.sequences }
            : { tiles: batch.tiles, tileCount: batch.tileCount }),
        })
        if (isLast) remaining = pooled.gather(stream, batch, remaining)
        enqueueAfterAttention(stream, layer, { of: remaining, next: layers[i + 1] ?? layer })
      }
      pool(stream, {
        sequences: batch.sequences,
        hidden: remaining.hidden,
        cumulativeLengths: isPooledEarly ? batch.pooled!.cumulativeLengths : batch.cumulativeLengths,
        output: batch.output,
        dimensions: hiddenSize,
        normalize: batch.normalize,
      })
    },
  }
}

async function loadNorm(
  stored: string,
  size: number,
  { weights, gpuWeights }: ForwardContext,
): Promise<Norm> {
  const vector = async (part: string) => gpuWeights.vector([weights.get(`${stored}.${part}`, [size])])
  return { gamma: await vector('weight'), beta: await vector('bias') }
}

async function loadTables(shape: EncoderShape, context: ForwardContext) {
  const { weights, gpuWeights } = context
  const { hiddenSize, typeVocabularySize } = shape
  const table = async (name: string, rows: number) =>
    gpuWeights.vector([weights.get(`embeddings.${name}.weight`, [rows, hiddenSize])])
  return {
    word: await table('word_embeddings', shape.vocabularySize),
    position: await table('position_embeddings', shape.maxPositionEmbeddings),
    // All tokens have the first type: its row.
    type:
      typeVocabularySize === 0
        ? await gpuWeights.upload(new Uint16Array(hiddenSize))
        : await table('token_type_embeddings', typeVocabularySize),
    ...(await loadNorm('embeddings.LayerNorm', hiddenSize, context)),
  }
}

function refuseUncomputed({ relativeBucketCount, activation }: EncoderShape): void {
  const reason =
    relativeBucketCount !== undefined
      ? "it has no attention bias by relative position (MPNet's)"
      : activation === 'relu'
        ? "it has no activation 'relu'"
        : undefined
  if (reason !== undefined)
    throw new EmbedError('ENGINE_UNAVAILABLE', { engine: 'cuda', reason, fix: 'use another engine' })
}
