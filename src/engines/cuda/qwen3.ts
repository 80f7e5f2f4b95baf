/** Qwen3: RMSNorm, rotated queries and keys, causal attention with grouped queries, SwiGLU. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { DecoderShape } from '../../model/onnx/decoder-graph.ts'
import { EmbedError } from '../../errors.ts'
import {
  Activations,
  type ForwardContext,
  type ForwardPass,
  type GpuBatch,
  toRowOutput,
} from './forward-pass.ts'
import { loadEmbedding } from './kernels/embedding.ts'
import { fewRows } from './kernels/few-rows-product.ts'
import { loadFlashAttention } from './kernels/flash-attention.ts'
import { qwen3Attention } from './kernels/kernel-set.ts'
import { loadPooling } from './kernels/pooling.ts'
import { loadQkNormRope, makeRotation } from './kernels/qk-norm-rope.ts'
import { loadAttendedQuantizer } from './kernels/quantize-rows.ts'
import { loadResidualRmsnorm } from './kernels/residual-rmsnorm.ts'
import { type LayerProducts, loadFewRowsProducts, loadManyRowsProducts } from './layer-products.ts'
import { loadPooledRows, pooledTokenOf, type RemainingRows } from './pooled-rows.ts'
import { loadQwen3Layers, type Qwen3Layer } from './qwen3-layers.ts'
import { loadSharedPrefix } from './shared-prefix.ts'
import { loadVocabularyTable } from './vocabulary-table.ts'
import { type LinearCall, roundRows } from './linear-layers.ts'

/** Some of the remaining rows. */
interface Chunk extends RemainingRows {
  /** bf16 [rows, (heads + 2 * kvHeads) * headSize] */
  readonly qkv: DevicePointer
}

/** Loads kernels and weights. The residual stream is bf16: Qwen3 overflows fp16.
 * @throws {EmbedError} MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID, GPU_OUT_OF_MEMORY, SCALES_INVALID, KERNEL_NOT_COMPILED */
export async function loadQwen3(shape: DecoderShape, context: ForwardContext): Promise<ForwardPass> {
  const { loader, linear, precision, pooling, weights, maxTokens, maxPassTokens, gpuWeights } = context
  const { hiddenSize, intermediateSize, headSize, rmsNormEpsilon: epsilon } = shape
  if (pooling === 'mean') {
    // The model's last norm comes before the mean, and is done for pooled tokens only.
    throw new EmbedError('ENGINE_UNAVAILABLE', {
      engine: 'cuda',
      reason: 'it has no mean over the tokens of a decoder',
      fix: 'use another engine',
    })
  }
  const heads = { heads: shape.headCount, kvHeads: shape.keyValueHeadCount, headSize }
  const attentionSize = shape.headCount * headSize
  const qkvSize = attentionSize + 2 * shape.keyValueHeadCount * headSize
  const embedding = await loadEmbedding(loader, { rowSize: hiddenSize, output: 'bf16' })
  const rmsnorm = await loadResidualRmsnorm(loader, {
    rowSize: hiddenSize,
    output: precision,
    epsilon,
    withDelta: false,
  })
  const rope = await loadQkNormRope(loader, { ...heads, norm: { epsilon }, keysOnly: true })
  const attention = await loadFlashAttention(loader, qwen3Attention({ ...heads, epsilon }, precision))
  const quantizer = await loadAttendedQuantizer(loader, precision, attentionSize)
  const isRowwise = precision === 'fp8-rowwise'
  const many = await loadManyRowsProducts(loader, linear, { intermediateSize, precision })
  const few = context.fewRowsProducts
    ? await loadFewRowsProducts(loader, many, { ...heads, hiddenSize, intermediateSize, epsilon, precision })
    : undefined
  const productsFor = (rows: number): LayerProducts => (rows <= fewRows ? (few ?? many) : many)
  const pool = await loadPooling(loader, { rowSize: hiddenSize, pooling, rmsNorm: { epsilon } })

  const [passRows, chunk] = [maxPassTokens, Math.min(context.chunkRows, maxPassTokens)].map(roundRows) as [
    number,
    number,
  ]
  const largestInner = Math.max(hiddenSize, attentionSize, intermediateSize)
  const activations = new Activations(context, { largestInner, rows: chunk })
  const hidden = activations.buffer('hidden', hiddenSize)
  // The attention is over when gate and up come: they share their memory.
  const attentionBytes = passRows * (qkvSize + attentionSize) * 2
  const gateUpBytes = chunk * intermediateSize * 4
  const gateUp = activations.bytesOf('attention, then gate and up', Math.max(attentionBytes, gateUpBytes))
  const qkv = gateUp
  const attended = rowAt(qkv, passRows, qkvSize * 2)
  const attendedBytes = attentionSize * (precision === 'fp8' ? 1 : 2)
  // bf16 rows for the products; FP8 has one buffer for all.
  const normed = precision === 'bf16' ? activations.buffer('normed', hiddenSize, chunk) : qkv
  const active = precision === 'bf16' ? activations.buffer('active', intermediateSize, chunk) : qkv
  const rotation = await gpuWeights.upload(makeRotation(maxTokens, headSize, shape.ropeTheta))
  const finalNorm = await gpuWeights.vector([weights.get('norm.weight', [hiddenSize])])
  const word = await loadVocabularyTable(
    loader.gpu,
    weights.get('embed_tokens.weight', [shape.vocabularySize, hiddenSize]),
  )
  const layers = await loadQwen3Layers(shape, context, { activations, normed, attended, active })

  const all = (rows: number): RemainingRows => ({ rows, hidden, attended })
  const pooled = await loadPooledRows(context, activations, {
    hiddenSize,
    attentionBytes: attendedBytes,
    room: qkv,
  })
  const prefix = await loadSharedPrefix(loader, { qkvBytes: qkvSize * 2, attendedBytes })
  /** What the products take at a time. @param ownQkv where they write queries, keys and values */
  const chunksOf = (of: RemainingRows, ownQkv = qkv): Chunk[] =>
    Array.from({ length: Math.ceil(of.rows / chunk) }, (_, i) => ({
      rows: Math.min(chunk, of.rows - i * chunk),
      hidden: rowAt(of.hidden, i * chunk, hiddenSize * 2),
      qkv: rowAt(ownQkv, i * chunk, qkvSize * 2),
      attended: rowAt(of.attended, i * chunk, attendedBytes),
    }))
  /** Attention's two and the feed-forward's two, in order. */
  const callsOf = (
    layer: Qwen3Layer,
    of: Chunk,
  ): readonly [LinearCall, LinearCall, LinearCall, LinearCall] => {
    const { rows, hidden: output } = of
    const denseInput = isRowwise ? layer.denseInput : { ...layer.denseInput, values: of.attended }
    return [
      { rows, input: layer.qkvInput, output: of.qkv },
      { rows, input: denseInput, output, accumulate: true },
      { rows, input: layer.gateUpInput, output: gateUp },
      { rows, input: layer.downInput, output, accumulate: true },
    ]
  }
  /** @returns where what the attention made of each token is */
  const enqueueAttention = (
    stream: GpuStream,
    layer: Qwen3Layer,
    { batch, isPooled }: { readonly batch: GpuBatch; readonly isPooled: boolean },
  ): DevicePointer => {
    const { shared, positions, tiles, tileCount } = batch
    const { queryGamma, keyGamma } = layer
    // Behind the rows of the attention, which are fewer than a pass can have.
    const ownQkv = shared === undefined ? qkv : rowAt(qkv, shared.rows, qkvSize * 2)
    for (const each of chunksOf(all(batch.rows), ownQkv)) {
      const { rows, hidden: residual } = each
      rmsnorm(stream, { rows, residual, gamma: layer.attentionNorm, ...toRowOutput(layer.qkvInput) })
      productsFor(rows).qkv(stream, layer.qkv, callsOf(layer, each)[0])
    }
    rope(stream, { rows: batch.rows, qkv: ownQkv, positions, rotation, keyGamma })
    if (shared !== undefined) prefix.repeat(stream, shared, ownQkv, qkv)
    attention.launch(stream, {
      qkv,
      positions: shared?.positions ?? positions,
      rotation,
      queryGamma,
      ...toRowOutput({ ...layer.denseInput, values: attended }),
      ...(isPooled ? { tiles: batch.pooled!.tiles, tileCount: batch.sequences } : { tiles, tileCount }),
    })
    if (shared === undefined) return attended
    prefix.collect(stream, shared, { tokens: batch.rows, from: attended, to: ownQkv })
    return ownQkv
  }
  const enqueueAfterAttention = (stream: GpuStream, layer: Qwen3Layer, of: RemainingRows): void => {
    const chunks = chunksOf(of)
    for (const each of chunks) {
      quantizer?.quantize(stream, {
        rows: each.rows,
        input: each.attended,
        ...toRowOutput(layer.denseInput),
      })
      productsFor(each.rows).dense(stream, layer.dense, callsOf(layer, each)[1])
    }
    for (const each of chunks) {
      const { rows, hidden: residual } = each
      const [, , gateUpCall, downCall] = callsOf(layer, each)
      rmsnorm(stream, { rows, residual, gamma: layer.feedForwardNorm, ...toRowOutput(layer.gateUpInput) })
      const products = productsFor(rows)
      const input = products.gateUp(stream, layer.gateUp, { ...gateUpCall, active: layer.downInput })
      products.down(stream, layer.down, { ...downCall, input })
    }
  }

  return {
    isCausal: true,
    activationBytes: activations.bytes,
    attentionQueries: attention.queries,
    firstPosition: 0,
    pooledToken: pooledTokenOf(pooling),
    sharesPrefix: pooling === 'last-token',
    products: (batch) => {
      const layer = layers[0]!
      const weightsOf = [layer.qkv, layer.dense, layer.gateUp, layer.down]
      const toProducts = (of: Chunk) =>
        callsOf(layer, of).map((call, i) => ({ weights: weightsOf[i]!, call }))
      const count = pooled?.countOf(batch)
      const ofPooled =
        count === undefined ? [] : chunksOf(all(count)).flatMap((of) => toProducts(of).slice(1))
      const products = [...chunksOf(all(batch.rows)).flatMap(toProducts), ...ofPooled]
      return products.filter(({ call }) => productsFor(call.rows) === many)
    },
    enqueue: (stream, batch) => {
      const { rows, ids } = batch
      const isPooledEarly = pooled?.countOf(batch) !== undefined
      embedding(stream, { rows, ids, word, hidden })
      let remaining = all(rows)
      for (const layer of layers) {
        const isPooled = isPooledEarly && layer === layers.at(-1)
        const made = enqueueAttention(stream, layer, { batch, isPooled })
        remaining = { rows, hidden, attended: made }
        if (isPooled) remaining = pooled.gather(stream, batch, remaining)
        enqueueAfterAttention(stream, layer, remaining)
      }
      pool(stream, {
        sequences: batch.sequences,
        hidden: remaining.hidden,
        cumulativeLengths: isPooledEarly ? batch.pooled!.cumulativeLengths : batch.cumulativeLengths,
        gamma: finalNorm,
        output: batch.output,
        dimensions: hiddenSize,
        normalize: batch.normalize,
      })
    },
  }
}

function rowAt(from: DevicePointer, row: number, rowBytes: number): DevicePointer {
  return (from + BigInt(row * rowBytes)) as DevicePointer
}
