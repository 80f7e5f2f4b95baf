/** The places where rectangles run: one on a share of the threads for each call at once, and one on all of them for a
 * call that runs alone. */
import type { RectangleRunner } from './rectangular-engine.ts'

export interface Runners {
  /** As many as calls may run at once. */
  readonly shared: readonly RectangleRunner[]
  /** Has all threads; absent when `shared` has one runner, which has them anyway. */
  readonly exclusive?: RectangleRunner | undefined
}

export interface RunnerLease {
  readonly runner: RectangleRunner
  readonly isExclusive: boolean
  readonly release: () => void
}

export class RunnerSet {
  readonly #idle: RectangleRunner[]
  readonly #waiting: ((runner: RectangleRunner) => void)[] = []
  #exclusive: RectangleRunner | undefined

  constructor({ shared, exclusive }: Runners) {
    this.#idle = [...shared]
    this.#exclusive = exclusive
  }

  /** Waits for a free runner; first come, first served. */
  async acquire(exclusive: boolean): Promise<RunnerLease> {
    const runner = this.#exclusive
    if (exclusive && runner !== undefined) {
      this.#exclusive = undefined
      return {
        runner,
        isExclusive: true,
        release: () => {
          this.#exclusive = runner
        },
      }
    }
    const shared =
      this.#idle.pop() ?? (await new Promise<RectangleRunner>((take) => this.#waiting.push(take)))
    return { runner: shared, isExclusive: false, release: () => this.#release(shared) }
  }

  #release(runner: RectangleRunner): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#idle.push(runner)
    else next(runner)
  }
}
