/** TensorRT's IProgressMonitor: how far a build is, and the word to stop it. The same table in 10 and 11. */
import { declareCallback, type Pointer } from '../library.ts'
import { makeObject, makeTable, versionedEntries } from './native-interface.ts'

export interface BuildProgress {
  /** In TensorRT's words, e.g. 'Building Engine'. */
  readonly phase: string
  /** The phase around it. */
  readonly parent: string | undefined
  readonly steps: number
  /** Of `steps`; `isDone` can come before all of them. */
  readonly completedSteps: number
  readonly isDone: boolean
}

/** Callbacks are made once; the object they are called for tells whose they are. */
const monitors = new Map<Pointer, ProgressMonitor>()
let table: Pointer | undefined

/** For one build: registered with its configuration, disposed of when the build has ended. */
export class ProgressMonitor implements Disposable {
  readonly pointer: Pointer
  readonly #onProgress: ((progress: BuildProgress) => void) | undefined
  readonly #signal: AbortSignal | undefined
  readonly #phases = new Map<string, BuildProgress>()
  /** What TensorRT reads. */
  #memory: ArrayBuffer | undefined

  /** @param onProgress called while the event loop turns, the build waiting meanwhile
   * @param signal stops the build at its next step */
  constructor(onProgress: ((progress: BuildProgress) => void) | undefined, signal: AbortSignal | undefined) {
    table ??= makeMonitorTable()
    const { pointer, memory } = makeObject(table)
    this.pointer = pointer
    this.#memory = memory
    this.#onProgress = onProgress
    this.#signal = signal
    monitors.set(pointer, this)
  }

  /** For the callbacks. */
  begin(phase: string, parent: string | null, steps: number): void {
    this.#tell({ phase, parent: parent ?? undefined, steps, completedSteps: 0, isDone: false })
  }

  /** For the callbacks. @returns whether to go on */
  complete(phase: string, step: number): boolean {
    const known = this.#phases.get(phase)
    if (known !== undefined) this.#tell({ ...known, completedSteps: step + 1 })
    return this.#signal?.aborted !== true
  }

  /** For the callbacks. */
  end(phase: string): void {
    const known = this.#phases.get(phase)
    if (known !== undefined) this.#tell({ ...known, isDone: true })
    this.#phases.delete(phase)
  }

  [Symbol.dispose](): void {
    if (this.#memory !== undefined) monitors.delete(this.pointer)
    this.#memory = undefined
  }

  #tell(progress: BuildProgress): void {
    this.#phases.set(progress.phase, progress)
    try {
      this.#onProgress?.(progress)
    } catch {
      // An exception cannot pass through C.
    }
  }
}

function makeMonitorTable(): Pointer {
  return makeTable([
    ...versionedEntries('IProgressMonitor'),
    declareCallback(
      'void IProgressMonitor_phaseStart(void *self, const char *phase, const char *parent, int32_t steps)',
      (self: Pointer, phase: string, parent: string | null, steps: number) =>
        monitors.get(self)?.begin(phase, parent, steps),
    ),
    declareCallback(
      'bool IProgressMonitor_stepComplete(void *self, const char *phase, int32_t step)',
      (self: Pointer, phase: string, step: number) => monitors.get(self)?.complete(phase, step) ?? true,
    ),
    declareCallback(
      'void IProgressMonitor_phaseFinish(void *self, const char *phase)',
      (self: Pointer, phase: string) => monitors.get(self)?.end(phase),
    ),
  ])
}
