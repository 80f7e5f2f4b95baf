/** The run as it happened, a JSON line an event. Only ever appended to, and on the disk before the run goes on: a run that
 * is killed loses the experiment under way, no more. */
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { EmbedError, toReason } from '../../errors.ts'
import type { LimitFacts } from '../limits/speed-of-light.ts'
import type { ExperimentResult } from './experiment.ts'
import type { IsolatedChange } from './isolate.ts'
import type { PreflightItem } from './preflight.ts'
import type { SideInfo, SideQuality, Settings, Slice } from './side.ts'
import type { TunedKey } from './tuned-config.ts'
import type { TunedProfile } from './winner-profile.ts'

export interface ExperimentEntry {
  readonly kind: 'experiment'
  /** 'e1', 'e2', …; 'baseline' is the first incumbent. */
  readonly id: string
  readonly incumbentId: string
  readonly stage: string
  readonly change: Settings
  readonly settings: Settings
  readonly durationMs: number
  readonly result: ExperimentResult
}

export type JournalEntry =
  | {
      readonly kind: 'begin'
      readonly version: 1
      readonly date: string
      readonly key: TunedKey
      readonly stages: readonly string[]
      readonly facts: RunFacts
    }
  | { readonly kind: 'resume'; readonly date: string }
  | {
      readonly kind: 'baseline'
      readonly settings: Settings
      readonly info: SideInfo
      readonly slice: Slice
      readonly quality: SideQuality
      /** To measure it once. */
      readonly sliceMs: number
    }
  | { readonly kind: 'skip'; readonly stage: string; readonly reason: string }
  | ExperimentEntry
  | {
      readonly kind: 'profile'
      /** Of the winner, or why there is none. */
      readonly profile: TunedProfile
      /** Absent in older journals. */
      readonly baseline?: TunedProfile
    }
  | { readonly kind: 'isolation'; readonly results: readonly IsolatedChange[] }
  | {
      readonly kind: 'end'
      readonly date: string
      /** Of the experiment that gave the winner; 'baseline'; or 'untuned' where nothing that was found beat the default. */
      readonly incumbentId: string
      readonly settings: Settings
      /** Why it ended before the last stage. */
      readonly stoppedBy?: string
      readonly final: FinalComparison
    }

/** What was known before the first experiment. */
export interface RunFacts {
  readonly checklist: readonly PreflightItem[]
  /** What the bounds are computed from, or why there are none. */
  readonly limits: LimitFacts | { readonly missing: string }
  readonly hasSyntheticWeights: boolean
}

/** Baseline, the untuned default, and winner, measured in turn at the end. */
export interface FinalComparison {
  readonly baseline: Slice
  /** Or why it was not measured. */
  readonly untuned: Slice | { readonly missing: string }
  readonly winner: Slice
  /** Of the winner. */
  readonly info: SideInfo
  /** Winner by baseline and by untuned, in texts/s, by scenario, with their intervals. */
  readonly gains: readonly {
    readonly scenario: string
    readonly overBaseline: Interval
    readonly overUntuned: Interval | undefined
  }[]
  /** Where texts/s of one more round of the winner would lie in 19 of 20 cases, by scenario. */
  readonly expected: Readonly<Record<string, { readonly low: number; readonly high: number }>>
  readonly rounds: number
  /** What the baseline is worth: a plain loop over onnxruntime-node, timed beside it. Absent in older journals. */
  readonly plainLoop?: PlainLoopComparison | { readonly missing: string }
  /** The winner is what serve takes by itself: measured once, for both. */
  readonly isUntuned?: boolean
  /** Set when the untuned default was faster than what the search had found, and was taken instead. */
  readonly instead?: { readonly lossToUntuned: LossToUntuned; readonly quality: SideQuality }
}

export interface PlainLoopComparison {
  readonly scenario: string
  readonly textsPerSecond: number
  readonly baselineByPlain: Interval
}

export interface Interval {
  readonly ratio: number
  readonly low: number
  readonly high: number
}

export interface LossToUntuned extends Interval {
  /** The one that it was in; absent: over all. */
  readonly scenario?: string
}

export class Journal implements AsyncDisposable {
  readonly path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  /** @throws {EmbedError} FILE_UNWRITABLE */
  static async open(path: string): Promise<Journal> {
    try {
      return new Journal(path, await open(path, 'a'))
    } catch (error) {
      throw toWriteError(path, error)
    }
  }

  /** On the disk when it resolves. @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
  async append(entry: JournalEntry): Promise<void> {
    try {
      await this.#handle.appendFile(`${JSON.stringify(entry)}\n`)
      await this.#handle.datasync()
    } catch (error) {
      throw toWriteError(this.path, error)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}

/** All entries; a last line that was cut by a crash is left out. Empty where there is no file.
 * @throws {EmbedError} FILE_UNREADABLE, FILE_FORMAT with the line */
export async function readJournal(path: string): Promise<JournalEntry[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
  }
  const lines = text.split('\n')
  const entries = lines.flatMap((line, i) => {
    if (line === '') return []
    try {
      return [JSON.parse(line) as JournalEntry]
    } catch (cause) {
      if (i === lines.length - 1) return []
      const reason = `line ${i + 1} is no JSON; give --output another folder`
      throw new EmbedError('FILE_FORMAT', { path, reason }, { cause })
    }
  })
  const begin = entries.find((entry) => entry.kind === 'begin')
  // The first form of a journal had none; resumed or reported, it would be a run without its conditions.
  if (begin === undefined || (begin.facts as RunFacts | undefined) !== undefined) return entries
  const reason = 'an earlier version of this package wrote it; give --output another folder'
  throw new EmbedError('FILE_FORMAT', { path, reason })
}

function toWriteError(path: string, error: unknown): EmbedError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const fix = 'free some, then run the same command with --resume'
    return new EmbedError('NO_SPACE', { path, fix }, { cause: error })
  }
  const fix = 'give --output a folder that can be written'
  return new EmbedError('FILE_UNWRITABLE', { path, reason: toReason(error), fix }, { cause: error })
}
