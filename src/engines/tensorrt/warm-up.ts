/** Runs the shapes that will be common once on every lane, so that their graphs are there before the first request. */
import type { ExecutionLane, LaneParts } from './execution-lane.ts'
import type { EngineShape } from './profile-shapes.ts'

const maxShapes = 24
const shortestTokens = 16
/** Graphs save launches, which count where a run is short: on an H100 1 x 512 tokens of six layers take 1.22 instead of
 * 1.36 ms, 8 x 512 the same 7.1. */
const maxGraphCells = 2048
/** Then the rest goes without graphs: a context of six layers takes 0.2 s to make, one of 36 accordingly more. */
const longestMs = 15_000
/** A recording that stops the event loop for longer is made at the start or never. */
const longestHiccupMs = 10

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
  return [...found.values()]
    .filter((shape) => cellsOf(shape) <= maxGraphCells)
    .sort((a, b) => cellsOf(a) - cellsOf(b))
    .slice(0, maxShapes)
}

/** @throws {EmbedError} TENSORRT_FAILED, CUDA_STATUS */
export async function warmUp(lanes: readonly ExecutionLane[], parts: LaneParts): Promise<void> {
  const { graphShapes, padTokenId, counts, plans } = parts
  const startMs = performance.now()
  for (const shape of graphShapes.isOpen ? listWarmShapes(parts) : []) {
    if (performance.now() - startMs > longestMs) break
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
  for (const [plan, { profiles }] of plans.entries()) {
    for (const [profile, { optBatch, optTokens }] of profiles.entries()) {
      const shape = { plan, profile, rows: optBatch, tokens: optTokens, key: Number.NaN }
      await Promise.all(lanes.map((lane) => lane.prepare(shape)))
    }
  }
  if (counts.lastRecordingMs > longestHiccupMs) graphShapes.close()
}

function cellsOf({ rows, tokens }: EngineShape): number {
  return rows * tokens
}
