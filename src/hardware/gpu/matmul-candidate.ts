/** An algorithm that a search tries, and how those that it chose are kept on disk. */
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

/** The algorithm alone: what tells it from others. */
export function textOf({ bytes }: Pick<MatmulAlgorithm, 'bytes'>): string {
  return Buffer.from(bytes).toString('base64')
}

export function keyOf({ algorithm }: Candidate): string {
  return textOf(algorithm)
}

/** @returns JSON, for parseAlgorithms */
export function formatAlgorithms(algorithms: readonly MatmulAlgorithm[]): Buffer {
  return Buffer.from(
    JSON.stringify(algorithms.map(({ bytes, ...rest }) => ({ ...rest, algorithm: textOf({ bytes }) }))),
  )
}

/** @param content what formatAlgorithms gave, whatever else it was told of each; undefined where nothing is kept */
export function parseAlgorithms(content: Uint8Array | undefined): MatmulAlgorithm[] | undefined {
  if (content === undefined) return undefined
  const kept = JSON.parse(Buffer.from(content).toString()) as (Omit<MatmulAlgorithm, 'bytes'> & {
    algorithm: string
  })[]
  return kept.map(({ algorithm, ...rest }) => ({
    ...rest,
    bytes: new Uint8Array(Buffer.from(algorithm, 'base64')),
  }))
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
