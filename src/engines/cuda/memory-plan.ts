/** How long a pass can be: what weights and buffers take of the GPU, reckoned before anything is loaded. */
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import type { DecoderShape } from '../../model/onnx/decoder-graph.ts'
import type { EncoderShape } from '../../model/onnx/encoder-graph.ts'
import { EmbedError } from '../../errors.ts'

/** Of a model on the GPU. */
export interface ModelMemory {
  /** Of the layers' products: two operations each, a token. */
  readonly matrixElements: number
  readonly weightBytes: number
  /** Of the buffers between the layers when a pass takes so many tokens, and a decoder's products so many rows at a time. */
  readonly bufferBytes: (passTokens: number, chunkRows: number) => number
}

/** @see qwen3.ts */
export function decoderMemory(shape: DecoderShape, precision: MatmulPrecision): ModelMemory {
  const { hiddenSize, intermediateSize, headSize, layerCount } = shape
  const attentionSize = shape.headCount * headSize
  const qkvSize = attentionSize + 2 * shape.keyValueHeadCount * headSize
  const matrices = hiddenSize * (qkvSize + attentionSize + 3 * intermediateSize)
  const largestInner = Math.max(hiddenSize, attentionSize, intermediateSize)
  const inputBytes = precision === 'bf16' ? 2 * (hiddenSize + intermediateSize) : largestInner + 4
  return {
    matrixElements: layerCount * matrices,
    weightBytes: layerCount * matrices * bytesOf(precision),
    bufferBytes: (passTokens, chunkRows) => {
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
    matrixElements: layerCount * matrices,
    weightBytes: layerCount * matrices * bytesOf(precision) + 2 * tables,
    bufferBytes: (passTokens) =>
      passTokens * (2 * (2 * hiddenSize + 4 * attentionSize + intermediateSize) + inputBytes),
  }
}

function bytesOf(precision: MatmulPrecision): number {
  return precision === 'bf16' ? 2 : 1
}

export interface MemoryPlan {
  /** Of one pass. */
  readonly maxPassTokens: number
  /** Of one text. */
  readonly maxTokens: number
  /** As ForwardContext has it. */
  readonly chunkRows: number
}

/** For kernels that load late, and what allocations round up to. */
const reserveBytes = 32 << 20
/** The driver's, for one of a few hundred kernels (measured with 36 layers on an H200). */
const graphBytes = 3 << 20
/** Who has no room for this has no use for the engine. */
const fewestTokens = 512
const step = 128
/** Products of fewer rows are much slower a row. */
const fewestChunkRows = 1024

/** As many tokens a pass as are wanted, or fit; a text longer than a pass can be is not taken. Where room is short products
 * take fewer rows at a time first, since that costs less than shorter passes.
 * @param asked.passTokens at least the longest text where that fits   @param asked.graphs of CUDA that will be recorded
 * @param gpu what is free now, and the most that may be used of the whole GPU
 * @throws {EmbedError} GPU_OUT_OF_MEMORY */
export function planMemory(
  { weightBytes, bufferBytes }: ModelMemory,
  asked: {
    readonly passTokens: number
    readonly textTokens: number
    readonly chunkRows: number
    readonly graphs: number
  },
  gpu: {
    readonly freeBytes: number
    readonly totalBytes: number
    readonly limitBytes?: number | undefined
  },
): MemoryPlan {
  const { freeBytes, totalBytes, limitBytes = totalBytes } = gpu
  const roomBytes = Math.max(0, Math.min(freeBytes, limitBytes - (totalBytes - freeBytes)))
  const neededBytes = (tokens: number, rows: number) =>
    weightBytes + bufferBytes(tokens, rows) + reserveBytes + asked.graphs * graphBytes
  const fits = (tokens: number) => neededBytes(tokens, chunkRows) <= roomBytes
  const wanted = Math.max(asked.passTokens, asked.textTokens)
  const fewest = Math.min(fewestTokens, wanted)
  let { chunkRows } = asked
  let maxPassTokens = wanted
  while (!fits(maxPassTokens) && chunkRows / 2 >= fewestChunkRows) chunkRows /= 2
  while (maxPassTokens > fewest && !fits(maxPassTokens))
    maxPassTokens = Math.max(fewest, Math.ceil(maxPassTokens / step - 1) * step)
  if (!fits(maxPassTokens)) {
    const mib = Math.ceil(weightBytes / 2 ** 20)
    throw new EmbedError('GPU_OUT_OF_MEMORY', {
      memory: 'device',
      resource: `the model, ${mib} MiB of weights and passes of ${fewest} tokens`,
      neededBytes: neededBytes(fewest, chunkRows),
      freeBytes: roomBytes,
      totalBytes: Math.min(totalBytes, limitBytes),
    })
  }
  return { maxPassTokens, maxTokens: Math.min(asked.textTokens, maxPassTokens), chunkRows }
}
