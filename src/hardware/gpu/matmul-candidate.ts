/** An algorithm that a search tries. */
import type { MatmulAlgorithm } from './matmul.ts'

export interface Candidate {
  readonly algorithm: MatmulAlgorithm
  /** Its place in cuBLASLt's own list; undefined where that does not name it. */
  readonly rank: number | undefined
  /** Its timings. */
  readonly us: number[]
  /** Why it does not run. */
  error: unknown
}

export function toCandidate(algorithm: MatmulAlgorithm, rank: number | undefined): Candidate {
  return { algorithm, rank, us: [], error: undefined }
}

export function runs({ error }: Candidate): boolean {
  return error === undefined
}

export function keyOf({ algorithm }: Candidate): string {
  return Buffer.from(algorithm.bytes).toString('base64')
}

/** Of those that run. */
export function fastest(candidates: readonly Candidate[], count?: number): Candidate[] {
  return candidates
    .filter(runs)
    .toSorted((a, b) => medianOf(a) - medianOf(b))
    .slice(0, count)
}

export function medianOf({ us }: Candidate): number {
  return us.toSorted((a, b) => a - b)[us.length >> 1]!
}
