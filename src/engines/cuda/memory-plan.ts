/** How long a pass can be: what weights and buffers take of the GPU, reckoned before anything is loaded. */
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import type { DecoderShape } from '../../model/onnx/decoder-graph.ts'
import type { EncoderShape } from '../../model/onnx/encoder-graph.ts'
import { EmbedError } from '../../errors.ts'

/** Of a model on the GPU. */
export interface ModelMemory {
  readonly weightBytes: number
  /** Of the buffers between the layers when a pass takes so many tokens. */
  readonly bufferBytes: (passTokens: number) => number
}

/** @param chunkRows that products take at a time   @see qwen3.ts */
export function decoderMemory(
  shape: DecoderShape,
  precision: MatmulPrecision,
  chunkRows: number,
): ModelMemory {
  const { hiddenSize, intermediateSize, headSize, layerCount } = shape
  const attentionSize = shape.headCount * headSize
  const qkvSize = attentionSize + 2 * shape.keyValueHeadCount * headSize
  const matrices = hiddenSize * (qkvSize + attentionSize + 3 * intermediateSize)
  const largestInner = Math.max(hiddenSize, attentionSize, intermediateSize)
  const inputBytes = precision === 'bf16' ? 2 * (hiddenSize + intermediateSize) : largestInner + 4
  return {
    weightBytes: layerCount * matrices * bytesOf(precision),
    bufferBytes: (passTokens) => {
      const rows = Math.min(chunkRows, passTokens)
      const attentionBytes = 2 * passTokens * (qkvSize + attentionSize)
      return (
        2 * passTokens * hiddenSize +
        Math.max(attentionBytes, 4 * rows * intermediateSize) +
        rows * inputBytes
      )
    },
  }
}

/** @see bert.ts */
export function encoderMemory(shape: EncoderShape, precision: MatmulPrecision): ModelMemory {
  const { hiddenSize, intermediateSize, headSize, headCount, layerCount } = shape
  const attentionSize = headCount * headSize
  const matrices = hiddenSize * (4 * attentionSize + 2 * intermediateSize)
  const tables = hiddenSize * (shape.maxPositionEmbeddings + shape.vocabularySize)
  const inputBytes = precision === 'bf16' ? 0 : Math.max(hiddenSize, attentionSize, intermediateSize) + 4
  return {
    weightBytes: layerCount * matrices * bytesOf(precision) + 2 * tables,
    bufferBytes: (passTokens) =>
      passTokens * (2 * (2 * hiddenSize + 4 * attentionSize + intermediateSize) + inputBytes),
  }
}

function bytesOf(precision: MatmulPrecision): number {
  return precision === 'bf16' ? 2 : 1
}

export interface TokenLimits {
  /** Of one pass. */
  readonly maxPassTokens: number
  /** Of one text. */
  readonly maxTokens: number
}

/** For graphs, kernels that load late, and what allocations round up to. */
const reserveBytes = 64 << 20
/** Who has no room for this has no use for the engine. */
const fewestTokens = 512
const step = 128

/** As many tokens a pass as are wanted, or fit; a text longer than a pass can be is not taken.
 * @param asked.passTokens at least the longest text where that fits
 * @param gpu what is free now, and the most that may be used of the whole GPU
 * @throws {EmbedError} GPU_OUT_OF_MEMORY */
export function planTokens(
  { weightBytes, bufferBytes }: ModelMemory,
  asked: { readonly passTokens: number; readonly textTokens: number },
  gpu: {
    readonly freeBytes: number
    readonly totalBytes: number
    readonly limitBytes?: number | undefined
  },
): TokenLimits {
  const { freeBytes, totalBytes, limitBytes = totalBytes } = gpu
  const roomBytes = Math.max(0, Math.min(freeBytes, limitBytes - (totalBytes - freeBytes)))
  const neededBytes = (tokens: number) => weightBytes + bufferBytes(tokens) + reserveBytes
  const wanted = Math.max(asked.passTokens, asked.textTokens)
  const fewest = Math.min(fewestTokens, wanted)
  let maxPassTokens = wanted
  while (maxPassTokens > fewest && neededBytes(maxPassTokens) > roomBytes)
    maxPassTokens = Math.max(fewest, Math.ceil(maxPassTokens / step - 1) * step)
  if (neededBytes(maxPassTokens) > roomBytes) {
    const mib = Math.ceil(weightBytes / 2 ** 20)
    throw new EmbedError('GPU_OUT_OF_MEMORY', {
      memory: 'device',
      resource: `the model, ${mib} MiB of weights and passes of ${fewest} tokens`,
      neededBytes: neededBytes(fewest),
      freeBytes: roomBytes,
      totalBytes: Math.min(totalBytes, limitBytes),
    })
  }
  return { maxPassTokens, maxTokens: Math.min(asked.textTokens, maxPassTokens) }
}
