/** TensorRT's ILogger in JavaScript: an object in native memory whose table leads to callbacks. */
import { declareCallback, type Pointer } from '../library.ts'
import type { TensorrtMajor } from './method-table.ts'
import { destructorEntries, makeLastingObject, makeTable, versionedEntries } from './native-interface.ts'

/** From the most severe; the position is TensorRT's number. */
export const severities = ['internal_error', 'error', 'warning', 'info', 'verbose'] as const
export type Severity = (typeof severities)[number]

export interface TensorrtMessage {
  readonly severity: Severity
  readonly text: string
}

/** Words kept for the error of the call that caused them. */
const maxKeptErrors = 20

/** One for the whole process and never freed: TensorRT keeps the first it is given for good. */
export class TensorrtLogger {
  readonly pointer: Pointer
  readonly #listeners = new Set<{
    readonly least: number
    readonly hear: (message: TensorrtMessage) => void
  }>()
  #errors: string[] = []

  constructor(major: TensorrtMajor) {
    const log = declareCallback(
      'void ILogger_log(void *self, int32_t severity, const char *message)',
      (_self: Pointer, severity: number, text: string | null) => this.#take(severity, text ?? ''),
    )
    // In 11 it descends from IVersionedInterface.
    const entries = major === 10 ? [log, ...destructorEntries()] : [...versionedEntries('ILogger'), log]
    this.pointer = makeLastingObject(makeTable(entries))
  }

  /** Hears messages of `least` and above until disposed of, while the event loop turns. */
  listen(hear: (message: TensorrtMessage) => void, least: Severity = 'warning'): Disposable {
    const listener = { least: severities.indexOf(least), hear }
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** What TensorRT called errors since the last time, oldest first. */
  takeErrors(): string[] {
    const errors = this.#errors
    this.#errors = []
    return errors
  }

  #take(number: number, text: string): void {
    const severity = severities[number] ?? 'verbose'
    if (number <= 1) this.#errors = [...this.#errors, text].slice(-maxKeptErrors)
    for (const { least, hear } of this.#listeners) {
      try {
        if (number <= least) hear({ severity, text })
      } catch {
        // An exception cannot pass through C.
      }
    }
  }
}
