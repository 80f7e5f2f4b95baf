/** Where the time of a configuration goes, as the report shows it. */
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import type { CudaLibrary, CudaSearchOptions } from '../../hardware/machine/cuda-libraries.ts'
import { makeMixedWorkload, makeTextsWorkload } from '../measure/workload.ts'
import type { Advice } from '../profiler/advice.ts'
import { drawLastBatch } from '../profiler/last-batch.ts'
import type { Criterion } from '../profiler/criteria.ts'
import { profileEngine } from '../profiler/profile-engine.ts'

export interface WinnerProfile {
  readonly clients: number
  readonly criteria: readonly Criterion[]
  /** Absent in older journals. */
  readonly advice?: readonly Advice[]
  /** Of the kernels of a GPU, or of the nodes of a CPU's graph, by what they are for; empty where none were recorded. */
  readonly shares: readonly { readonly name: string; readonly share: number }[]
  /** The last batch on a GPU, as a picture. */
  readonly timelineSvg?: string
}

/** Or why there is none. */
export type TunedProfile = WinnerProfile | { readonly missing: string }

/** The plan's load. */
const clients = 4
const iterations = 60

export interface WinnerProfileOptions {
  readonly cacheDir: string
  readonly cudaSearch?: CudaSearchOptions | undefined
  /** CUPTI, found or not. */
  readonly cupti?: CudaLibrary | undefined
  readonly texts?: readonly string[] | undefined
}

/** @throws {EmbedError} as profileEngine */
export async function profileWinner(
  config: PipelineConfig,
  { cacheDir, cudaSearch, cupti, texts }: WinnerProfileOptions,
): Promise<WinnerProfile> {
  const { profile, records } = await profileEngine(config, {
    start: { cacheDir, cudaSearch },
    makeWorkload: (countTokens) =>
      texts === undefined
        ? makeMixedWorkload({ countTokens })
        : makeTextsWorkload('own texts', texts, { countTokens }),
    iterations,
    clients,
    ...(cupti === undefined ? {} : { findCupti: () => Promise.resolve(cupti) }),
  })
  const { gpu, nodes, criteria, advice } = profile
  const shares =
    gpu?.classes.map(({ kernelClass, share }) => ({ name: kernelClass, share })) ??
    nodes?.classes.map(({ nodeClass, share }) => ({ name: nodeClass, share })) ??
    []
  const timelineSvg = drawLastBatch(records)
  return { clients, criteria, advice, shares, ...(timelineSvg === undefined ? {} : { timelineSvg }) }
}
