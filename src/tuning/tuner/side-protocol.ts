/** What the tuner and the process of a side say to each other. */
import type { SideInfo, SideQuality, Slice } from './side.ts'
import type { WinnerProfile } from './winner-profile.ts'
import type { ConfigValues } from '../../config/load.ts'
import type { CudaLibrary, CudaSearchOptions } from '../../hardware/machine/cuda-libraries.ts'

export interface SideSetup {
  /** As for loadConfig: what differs from the defaults. */
  readonly values: ConfigValues
  readonly cacheDir: string
  /** Where NVIDIA's libraries may be beside the system's folders. */
  readonly cudaSearch?: CudaSearchOptions
  /** CUPTI for the profile of the winner, found or not. */
  readonly cupti?: CudaLibrary
  /** Clients of the closed loops, a scenario each. */
  readonly clients: readonly number[]
  /** Of those that only targets ask for: the search goes without them. */
  readonly moreClients?: readonly number[]
  readonly roundMs: number
  readonly qualityTexts: number
  /** In place of the service: one text after the other through onnxruntime-node. Reads model and threads of the values. */
  readonly plainLoop?: boolean
  /** Texts to send; default the generated mix. */
  readonly texts?: readonly string[]
}

export type SideRequest =
  | { readonly kind: 'start'; readonly setup: SideSetup }
  | { readonly kind: 'measure'; readonly all: boolean }
  | { readonly kind: 'assess' }
  /** Of a process that has not started one: the profile has a start of its own. */
  | { readonly kind: 'profile'; readonly setup: SideSetup }
  | { readonly kind: 'stop' }

export type SideAnswer =
  | { readonly kind: 'started'; readonly info: SideInfo }
  | { readonly kind: 'measured'; readonly slice: Slice }
  | { readonly kind: 'assessed'; readonly quality: SideQuality }
  | { readonly kind: 'profiled'; readonly profile: WinnerProfile }
  | { readonly kind: 'failed'; readonly reason: string }
