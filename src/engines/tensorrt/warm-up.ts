/** Runs the shapes that will be common once on every lane, so that their graphs are there before the first request. */
import type { ExecutionLane, LaneParts } from './execution-lane.ts'
import type { EngineShape } from './profile-shapes.ts'

/** More than these are left to the first requests: a lane records each in a few milliseconds. */
const maxShapes = 24
const shortestTokens = 16

/** One text alone, and the batch size that each profile was made for, at every power of two of tokens. */
export function listWarmShapes({ shapes, plans }: Pick<LaneParts, 'shapes' | 'plans'>): EngineShape[] {
  const lengths: number[] = []
  for (let tokens = shortestTokens; tokens < shapes.maxTokens; tokens *= 2) lengths.push(tokens)
  lengths.push(shapes.maxTokens)
  const optBatches = plans.flatMap(({ profiles }) => profiles.map(({ optBatch }) => optBatch))
  const found = new Map<number, EngineShape>()
  for (const rows of [...new Set([1, ...optBatches])].sort((a, b) => a - b)) {
    for (const tokens of lengths) {
      const shape = shapes.fit(rows, tokens)
      if (shape !== undefined) found.set(shape.key, shape)
    }
  }
  return [...found.values()].slice(0, maxShapes)
}

/** @throws {EmbedError} TENSORRT_FAILED, CUDA_STATUS */
export async function warmUp(lanes: readonly ExecutionLane[], parts: LaneParts): Promise<void> {
  const { graphShapes, padTokenId } = parts
  for (const shape of listWarmShapes(parts)) {
    graphShapes.promote(shape)
    const { rows, tokens } = shape
    const batch = {
      inputIds: new Int32Array(rows * tokens).fill(padTokenId),
      cumulativeLengths: Int32Array.from({ length: rows + 1 }, (_, row) => row * tokens),
    }
    const sequences = Int32Array.from({ length: rows }, (_, row) => row)
    await Promise.all(
      lanes.map((lane) => lane.run(batch, { sequences, paddedLength: tokens }, () => undefined)),
    )
  }
}
