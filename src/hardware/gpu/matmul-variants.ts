/** Algorithms that cuBLASLt has and its heuristics do not name: other tiles, stages, clusters, and sums split over the inner
 * size, which few rows want where their tiles leave the GPU half empty. */
import * as c from '../ffi/cublaslt.ts'
import type { Out } from '../ffi/library.ts'
import { isAccepted, type Matmul, type MatmulAlgorithm } from './matmul.ts'

/** cublasLtMatmulAlgoConfigAttributes_t, and the width of each. */
const attributes = {
  id: [c.CUBLASLT_ALGO_CONFIG_ID, 4],
  tile: [c.CUBLASLT_ALGO_CONFIG_TILE_ID, 4],
  stages: [c.CUBLASLT_ALGO_CONFIG_STAGES_ID, 4],
  cluster: [c.CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2],
  splitK: [c.CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4],
  reduction: [c.CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4],
  swizzle: [c.CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4],
  custom: [c.CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4],
} as const
type Attribute = keyof typeof attributes

/** Values of cublasLt.h's enumerations; those that the library does not know are left out. */
export type MatmulConfig = Readonly<Partial<Record<Attribute, number>>>

/** Parts of the inner size; 1: one sum. */
const splits = [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32]
/** cublasLtReductionScheme_t: through the output, in f32, in the output's type. */
const reductions = [1, 2, 4]
/** Some algorithms have hundreds. */
const mostCustomOptions = 16
const mostAlgorithms = 128

/** How an algorithm is configured. */
export function readConfig({ library }: Matmul, { bytes }: MatmulAlgorithm): MatmulConfig {
  const names = Object.keys(attributes) as Attribute[]
  const values = names.map((name) => {
    const [attribute, width] = attributes[name]
    const value = new Uint8Array(4)
    const written: Out<number> = [null]
    const isKnown = isAccepted(() =>
      library.cublaslt.cublasLtMatmulAlgoConfigGetAttribute(bytes, attribute, value, width, written),
    )
    return [name, isKnown ? new DataView(value.buffer).getInt32(0, true) : undefined] as const
  })
  return Object.fromEntries(values.filter(([, value]) => value !== undefined))
}

/** An algorithm, or undefined for each that cannot run this: there are many of those, and asking takes time too. */
export type Attempts = Generator<MatmulAlgorithm | undefined>

type Changes = (matmul: Matmul, algorithm: MatmulAlgorithm) => MatmulConfig[]

/** What an algorithm can differ in, in the order of what it gained on an H200. */
const changes = {
  cluster: () => upTo(c.CUBLASLT_CLUSTER_SHAPE_END - 1).map((cluster) => ({ cluster })),
  custom: (matmul, { bytes }) => {
    const most = readCapability(matmul, bytes, c.CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX)
    return upTo(Math.min(most, mostCustomOptions)).map((custom) => ({ custom }))
  },
  // Their ids are in order of size: the like come first.
  tile: (matmul, algorithm) => {
    const { tile: own = 0 } = readConfig(matmul, algorithm)
    const tiles = readChoices(matmul, algorithm.bytes, c.CUBLASLT_ALGO_CAP_TILE_IDS)
    return tiles.toSorted((a, b) => Math.abs(a - own) - Math.abs(b - own)).map((tile) => ({ tile }))
  },
  stages: (matmul, { bytes }) =>
    readChoices(matmul, bytes, c.CUBLASLT_ALGO_CAP_STAGES_IDS).map((stages) => ({ stages })),
  swizzle: (matmul, { bytes }) =>
    upTo(readCapability(matmul, bytes, c.CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT)).map((swizzle) => ({
      swizzle,
    })),
  // A split and how its parts are summed are one.
  splitK: (matmul, { bytes }) => {
    const isSplit = readCapability(matmul, bytes, c.CUBLASLT_ALGO_CAP_SPLITK_SUPPORT) !== 0
    const mask = readCapability(matmul, bytes, c.CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK)
    const schemes = reductions.filter((scheme) => (mask & scheme) !== 0)
    const parts = splits.flatMap((splitK) => schemes.map((reduction) => ({ splitK, reduction })))
    return [{ splitK: 1, reduction: 0 }, ...(isSplit ? parts : [])]
  },
} satisfies Record<string, Changes>

export type Respect = keyof typeof changes
export const respects = Object.keys(changes) as Respect[]

/** What differs from an algorithm in that respect alone. */
export function* variantsOf(matmul: Matmul, algorithm: MatmulAlgorithm, respect: Respect): Attempts {
  const changesOf: Changes = changes[respect]
  for (const change of changesOf(matmul, algorithm)) yield configure(matmul, algorithm.bytes, change)
}

/** 0, 1, …, most */
function upTo(most: number): number[] {
  return Array.from({ length: most + 1 }, (_, value) => value)
}

/** Of the algorithms with other ids than those given, all tiles and stages; the newest ids first. */
export function* otherAlgorithms(matmul: Matmul, knownIds: ReadonlySet<number>): Attempts {
  const { library, types } = matmul
  const { cublaslt, handle } = library
  library.gpu.makeCurrent()
  const ids = new Int32Array(mostAlgorithms)
  const returned: Out<number> = [null]
  if (!isAccepted(() => cublaslt.cublasLtMatmulAlgoGetIds(handle, ...types, ids.length, ids, returned)))
    return
  for (const id of ids.subarray(0, returned[0]!).toSorted((a, b) => b - a)) {
    const bytes = new Uint8Array(c.algorithmBytes)
    if (knownIds.has(id)) continue
    if (!isAccepted(() => cublaslt.cublasLtMatmulAlgoInit(handle, ...types, id, bytes))) continue
    for (const tile of readChoices(matmul, bytes, c.CUBLASLT_ALGO_CAP_TILE_IDS)) {
      for (const stages of readChoices(matmul, bytes, c.CUBLASLT_ALGO_CAP_STAGES_IDS))
        yield configure(matmul, bytes, { tile, stages })
    }
  }
}

/** @returns undefined where the library refuses it, or there is too little workspace */
function configure(matmul: Matmul, bytes: Uint8Array, config: MatmulConfig): MatmulAlgorithm | undefined {
  const changed = bytes.slice()
  const { cublaslt } = matmul.library
  for (const [name, number] of Object.entries(config) as [Attribute, number][]) {
    const [attribute, width] = attributes[name]
    const value = width === 2 ? Uint16Array.of(number) : Int32Array.of(number)
    const set = () => cublaslt.cublasLtMatmulAlgoConfigSetAttribute(changed, attribute, value, width)
    if (!isAccepted(set)) return undefined
  }
  return matmul.check(changed)
}

/** 0 where the library does not know the attribute. */
function readCapability({ library }: Matmul, bytes: Uint8Array, attribute: number): number {
  const value = new Int32Array(1)
  const get = () =>
    library.cublaslt.cublasLtMatmulAlgoCapGetAttribute(bytes, attribute, bytesOf(value), 4, [null])
  return isAccepted(get) ? value[0]! : 0
}

/** The values of an enumeration; 0, which leaves it open, where the algorithm has no choice. */
function readChoices({ library }: Matmul, bytes: Uint8Array, attribute: number): number[] {
  const { cublaslt } = library
  const written: Out<number> = [null]
  const get = (value: Int32Array, byteCount: number) =>
    isAccepted(() =>
      cublaslt.cublasLtMatmulAlgoCapGetAttribute(bytes, attribute, bytesOf(value), byteCount, written),
    )
  const count = get(new Int32Array(1), 0) ? Math.floor(written[0]! / 4) : 0
  const values = new Int32Array(count)
  return count > 0 && get(values, values.byteLength) ? [...values] : [0]
}

function bytesOf({ buffer }: Int32Array): Uint8Array {
  return new Uint8Array(buffer)
}
