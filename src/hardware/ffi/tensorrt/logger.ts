/** TensorRT's ILogger in JavaScript: an object in native memory whose table leads to callbacks. */
import { addressOf, declareCallback, declareStruct, type Pointer } from '../library.ts'
import type { TensorrtMajor } from './method-table.ts'

/** From the most severe; the position is TensorRT's number. */
export const severities = ['internal_error', 'error', 'warning', 'info', 'verbose'] as const
export type Severity = (typeof severities)[number]

export interface TensorrtMessage {
  readonly severity: Severity
  readonly text: string
}

/** Words kept for the error of the call that caused them. */
const maxKeptErrors = 20

/** Memory that TensorRT reads until the process ends. */
const keptForTensorrt: ArrayBuffer[] = []

declareStruct('nvinfer1_InterfaceInfo', { kind: 'void *', major: 'int32_t', minor: 'int32_t' })

/** One for the whole process and never freed: TensorRT keeps the first it is given for good. */
export class TensorrtLogger {
  readonly pointer: Pointer
  readonly #listeners = new Set<{
    readonly least: number
    readonly hear: (message: TensorrtMessage) => void
  }>()
  #errors: string[] = []

  constructor(major: TensorrtMajor) {
    const nothing = declareCallback('void ILogger_destroy(void *self)', () => undefined)
    const log = declareCallback(
      'void ILogger_log(void *self, int32_t severity, const char *message)',
      (_self: unknown, severity: number, text: string | null) => this.#take(severity, text ?? ''),
    )
    const kind = toMemory(Buffer.from('ILogger\0'))
    const table = toTable(major === 10 ? [log, nothing, nothing] : layoutOf11(log, nothing, addressOf(kind)))
    const object = toTable([addressOf(table)])
    this.pointer = addressOf(object)
    keptForTensorrt.push(kind, table, object)
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

/** In 11 it descends from IVersionedInterface. */
function layoutOf11(log: Pointer, nothing: Pointer, kind: Pointer): Pointer[] {
  const kCPP = 0
  const language = declareCallback('int32_t ILogger_getAPILanguage(void *self)', () => kCPP)
  const info = declareCallback('nvinfer1_InterfaceInfo ILogger_getInterfaceInfo(void *self)', () => ({
    kind,
    major: 1,
    minor: 0,
  }))
  return [language, info, nothing, nothing, log]
}

function toTable(pointers: readonly Pointer[]): ArrayBuffer {
  return BigUint64Array.from(pointers).buffer
}

/** A copy in memory of its own: Buffer's may be part of a pool. */
function toMemory(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer
}
