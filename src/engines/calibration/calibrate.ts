/** Finds the scales that fp8 needs: what goes into each linear layer while real texts run. */
import { createHash } from 'node:crypto'
import { EmbedError } from '../../errors.ts'
import type { CalibratedScales } from '../../model/activation-scales.ts'

/** A model that tells, for one sequence, the largest magnitude that went into each linear layer. */
export interface ActivationObserver {
  /** In the order of what `observe` gives: 'layer.0.attention.qkv', … */
  readonly linearLayers: readonly string[]
  /** Runtime, version and precision. */
  readonly madeBy: string
  /** @param inputIds i32 [tokens], one sequence   @returns f32 [linearLayers.length], caller owns */
  observe(inputIds: Int32Array): Promise<Float32Array>
}

export interface CalibrateOptions {
  /** ModelSpec.contentHash */
  readonly modelHash: string
  /** Token ids, special tokens included. */
  readonly sequences: readonly Int32Array[]
  /** What an unseen text may exceed the largest value by. Default 1.25. */
  readonly margin?: number
  readonly onProgress?: ((progress: { done: number; total: number }) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/** A quarter: E4M3 has a constant relative step over most of its range, so room above costs next to nothing, while a value
 * cut off at the top costs all that is beyond it. */
export const defaultMargin = 1.25

/** @throws {EmbedError} SCALES_INVALID (no sequence, or values that are not finite), REQUEST_CANCELLED */
export async function calibrate(
  observer: ActivationObserver,
  options: CalibrateOptions,
): Promise<CalibratedScales> {
  const { modelHash, sequences, margin = defaultMargin, onProgress, signal } = options
  const refuse = (reason: string) => new EmbedError('SCALES_INVALID', { source: observer.madeBy, reason })
  if (sequences.length === 0) throw refuse('there are no texts to measure with')
  const { linearLayers } = observer
  const amax = new Float32Array(linearLayers.length)
  let tokenCount = 0
  for (const [done, inputIds] of sequences.entries()) {
    if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
    onProgress?.({ done, total: sequences.length })
    const observed = await observer.observe(inputIds)
    for (const [layer, value] of observed.entries()) {
      if (!Number.isFinite(value)) throw refuse(`text ${done} gives ${value} before ${linearLayers[layer]}`)
      amax[layer] = Math.max(amax[layer]!, value)
    }
    tokenCount += inputIds.length
  }
  return {
    kind: 'calibrated',
    modelHash,
    textsHash: hashSequences(sequences),
    textCount: sequences.length,
    tokenCount,
    madeBy: observer.madeBy,
    margin,
    amax: Object.fromEntries(linearLayers.map((layer, i) => [layer, amax[i]!])),
  }
}

/** SHA-256 over the token ids. */
export function hashSequences(sequences: readonly Int32Array[]): string {
  const hash = createHash('sha256')
  for (const inputIds of sequences) hash.update(`${inputIds.join(' ')}\n`)
  return hash.digest('hex')
}
