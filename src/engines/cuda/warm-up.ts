/** The shapes that will come: their algorithms found and their graphs recorded before the first request. */
import type { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { PackedBatch } from '../engine.ts'
import type { BatchBuffers, PassLimits } from './batch-buffers.ts'
import type { ForwardPass } from './forward-pass.ts'
import type { LinearLayers, ProductPlan } from './linear-layers.ts'
import type { PassGraphs } from './pass-graphs.ts'
import { settlePlans } from './settle-plans.ts'

/** Sequences of one length. */
export interface WarmUpShape {
  readonly sequences: number
  readonly tokens: number
}

export interface WarmUpParts {
  readonly stream: GpuStream
  readonly forward: ForwardPass
  readonly graphs: PassGraphs
  readonly buffers: BatchBuffers
  readonly linear: LinearLayers
  readonly vocabularySize: number
  /** Where found algorithms are kept; without it each start searches anew. */
  readonly algorithmCache: DiskCache | undefined
}

/** @throws {EmbedError} MATMUL_UNSUPPORTED, GPU_OUT_OF_MEMORY, CUDA_STATUS */
export async function warmUp(parts: WarmUpParts, shapes: readonly WarmUpShape[]): Promise<void> {
  const { stream, forward, graphs, buffers, linear } = parts
  for (const shape of shapes) {
    const batch = makeBatch(shape, parts.vocabularySize)
    const pass = { first: 0, end: shape.sequences, forward, normalize: true }
    const uploaded = buffers.upload(stream, batch, pass)
    // Algorithms are timed on what a pass leaves in the buffers: real values.
    forward.enqueue(stream, uploaded)
    await stream.idle()
    const plans: ProductPlan[] = []
    for (const { weights, call } of forward.products(uploaded)) {
      const plan = await linear.search(stream, weights, call, parts.algorithmCache)
      if (plan !== undefined) plans.push(plan)
    }
    if (graphs.areUsed)
      await settlePlans(plans, {
        stream,
        pass: () => forward.enqueue(stream, uploaded),
        cache: parts.algorithmCache,
      })
    // The second time records the graph.
    for (let i = 0; i < 2; i++) {
      graphs.launch(stream, buffers.upload(stream, batch, pass))
      await stream.idle()
    }
  }
  await linear.chooseBetween(stream, parts.algorithmCache)
}

/** As much of each as one pass takes: a larger batch takes several of those. */
export function limitShapes(
  shapes: readonly WarmUpShape[],
  limits: PassLimits & { readonly maxTokens: number },
): readonly WarmUpShape[] {
  const { maxPassTokens, maxPassSequences, maxTokens } = limits
  const shortened = shapes.map(({ sequences, tokens }) => {
    const length = Math.min(tokens, maxTokens)
    const most = Math.min(maxPassSequences, Math.floor(maxPassTokens / length))
    return { sequences: Math.min(sequences, most), tokens: length }
  })
  return shortened.filter(
    ({ sequences, tokens }, i) =>
      shortened.findIndex((each) => each.sequences === sequences && each.tokens === tokens) === i,
  )
}

/** Ids spread over the vocabulary; a vocabulary's first hundred are mostly special tokens. */
function makeBatch({ sequences, tokens }: WarmUpShape, vocabularySize: number): PackedBatch {
  const inputIds = Int32Array.from(
    { length: sequences * tokens },
    (_, i) => (i * 7919 + 101) % vocabularySize,
  )
  return { inputIds, cumulativeLengths: Int32Array.from({ length: sequences + 1 }, (_, i) => i * tokens) }
}
