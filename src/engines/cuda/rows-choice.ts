/** Algorithms for the numbers of rows that no search was made for: those found for others and cuBLASLt's first choice, timed. Neither is
 * always the better: of Qwen3-4B's products on an H200 the first choice takes 7 % longer than the best at 2,048 rows, and what was found
 * for 512 rows 18 % longer at 640. */
import type { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import {
  Matmul,
  type MatmulAlgorithm,
  type MatmulLibrary,
  type MatmulOperands,
  type MatmulShape,
} from '../../hardware/gpu/matmul.ts'
import {
  fastest,
  formatAlgorithms,
  keyOf,
  parseAlgorithms,
  textOf,
  toCandidate,
} from '../../hardware/gpu/matmul-candidate.ts'
import { timeInRounds } from '../../hardware/gpu/matmul-search.ts'
import { MatmulTimer } from '../../hardware/gpu/matmul-timer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'

export interface RowsChoice {
  readonly rows: number
  readonly algorithm: MatmulAlgorithm
}

export interface RowsChoiceOptions {
  readonly library: MatmulLibrary
  /** With the most rows. */
  readonly shape: MatmulShape
  /** There is room for so many rows; D is written over. */
  readonly operands: MatmulOperands
  /** What was found for some numbers of rows. */
  readonly plans: readonly { readonly matmul: Matmul; readonly algorithm: MatmulAlgorithm }[]
  readonly rows: readonly number[]
  readonly stream: GpuStream
  /** Where the choice is kept for the next start. */
  readonly cache: DiskCache | undefined
}

/** Raised whenever another choice may be made than before. */
const version = 2
const rounds = 3

/** @returns one for each of `rows`, in their order   @throws {EmbedError} GPU_OUT_OF_MEMORY, CUDA_STATUS, MATMUL_UNSUPPORTED */
export async function chooseForRows(options: RowsChoiceOptions): Promise<readonly RowsChoice[]> {
  const { library, shape, plans, rows, cache } = options
  const { name, multiprocessorCount } = library.gpu.device
  const key = {
    rowsChoice: version,
    device: [name, multiprocessorCount],
    cublaslt: library.version,
    shape,
    rows,
    found: plans.map(({ matmul, algorithm }) => [matmul.shape.rows, textOf(algorithm)]),
  }
  const known = parseAlgorithms(await cache?.read(key))
  if (known?.length === rows.length) {
    return rows.map((count, i) => ({ rows: count, algorithm: known[i]! }))
  }
  const chosen: RowsChoice[] = []
  for (const count of rows) {
    const found = plans.find(({ matmul }) => matmul.shape.rows === count)
    chosen.push({ rows: count, algorithm: found?.algorithm ?? (await chooseFor(count, options)) })
  }
  await cache?.write(key, formatAlgorithms(chosen.map(({ algorithm }) => algorithm)))
  return chosen
}

async function chooseFor(
  rows: number,
  { library, shape, operands, plans, stream }: RowsChoiceOptions,
): Promise<MatmulAlgorithm> {
  using matmul = new Matmul(library, { ...shape, rows })
  const [first] = matmul.heuristics(operands)
  const others = plans
    .map(({ algorithm }) => matmul.check(algorithm.bytes))
    .filter((algorithm) => algorithm !== undefined)
  const candidates = new Map(
    [first!, ...others].map((algorithm) => {
      const candidate = toCandidate(algorithm, undefined)
      return [keyOf(candidate), candidate]
    }),
  )
  const all = [...candidates.values()]
  if (all.length === 1) return first!
  using timer = new MatmulTimer(matmul, stream, operands)
  try {
    await timeInRounds(timer, all, rounds)
    return fastest(all, 1)[0]?.algorithm ?? first!
  } finally {
    // What is freed then must not be in use.
    await stream.idle()
  }
}
