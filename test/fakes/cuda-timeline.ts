/** The clock of the fake GPU: streams that run in order, beside each other, each engine with one thing at a time. */

export type Engine = 'h2d' | 'd2h' | 'compute'

/** One entry of a stream: what it waits for, how long it takes on which engine, what it does at its end. */
export interface Work {
  readonly what: string
  readonly engine?: Engine
  readonly durationMs: number
  readonly isReady?: () => boolean
  readonly finish: () => void
}

export interface Executed {
  readonly what: string
  readonly stream: string
  readonly fromMs: number
  readonly toMs: number
}

/** What an event stands for since it was recorded last. */
export interface EventRecord {
  isDone: boolean
  atMs: number
}

/** What streams record instead of running. */
export interface Capture {
  readonly work: Work[]
  readonly records: Set<EventRecord>
  isBroken: boolean
}

export class FakeStream {
  readonly name: string
  readonly queue: Work[] = []
  /** Since when the head of the queue runs. */
  headFromMs: number | undefined
  capture: Capture | undefined

  constructor(name: string) {
    this.name = name
  }

  get isIdle(): boolean {
    return this.queue.length === 0
  }

  enqueue(work: Work): void {
    if (this.capture === undefined) this.queue.push(work)
    else this.capture.work.push(work)
  }

  /** When the running head will be done; Infinity when none runs. */
  get headToMs(): number {
    return this.headFromMs === undefined ? Infinity : this.headFromMs + this.queue[0]!.durationMs
  }
}

export class FakeTimeline {
  nowMs = 0
  /** What ran, in order of completion. */
  readonly executed: Executed[] = []
  readonly streams = new Map<bigint, FakeStream>()
  readonly #autoAdvance: boolean
  #streamCount = 0

  constructor(autoAdvance: boolean) {
    this.#autoAdvance = autoAdvance
  }

  addStream(handle: bigint): void {
    this.streams.set(handle, new FakeStream(`stream ${this.#streamCount++}`))
  }

  get captures(): Capture[] {
    return [...this.streams.values()].flatMap(({ capture }) => capture ?? [])
  }

  /** Lets the GPU work for so long. */
  advance(durationMs: number): void {
    const untilMs = this.nowMs + durationMs
    while (this.#step(untilMs)) {
      // until nothing ends before then
    }
    this.nowMs = untilMs
  }

  runUntil(isDone: () => boolean): void {
    while (!isDone() && this.#step()) {
      // on to the next completion
    }
  }

  query(isDone: () => boolean): boolean {
    if (!isDone() && this.#autoAdvance) this.#step()
    while (this.#step(this.nowMs)) {
      // records and waits take no time
    }
    return isDone()
  }

  record(stream: FakeStream): EventRecord {
    const record: EventRecord = { isDone: false, atMs: Number.NaN }
    stream.capture?.records.add(record)
    const finish = () => {
      record.isDone = true
      record.atMs = this.nowMs
    }
    stream.enqueue({ what: 'record', durationMs: 0, finish })
    return record
  }

  waitFor(stream: FakeStream, record: EventRecord | undefined): void {
    // A stream that waits for a recording one records too.
    const capture = this.captures.find(({ records }) => record !== undefined && records.has(record))
    if (capture !== undefined) stream.capture = capture
    const isReady = () => record === undefined || record.isDone
    stream.enqueue({ what: 'wait', durationMs: 0, isReady, finish: () => undefined })
  }

  /** Runs to the next completion at or before `untilMs`; false when there is none. */
  #step(untilMs = Infinity): boolean {
    const streams = [...this.streams.values()]
    for (const stream of streams) this.#startHead(stream)
    const next = streams.toSorted((a, b) => a.headToMs - b.headToMs)[0]
    if (next === undefined || next.headToMs === Infinity || next.headToMs > untilMs) return false
    const fromMs = next.headFromMs!
    this.nowMs = Math.max(this.nowMs, next.headToMs)
    const work = next.queue.shift()!
    next.headFromMs = undefined
    work.finish()
    this.executed.push({ what: work.what, stream: next.name, fromMs, toMs: this.nowMs })
    return true
  }

  #startHead(stream: FakeStream): void {
    const head = stream.queue[0]
    if (head === undefined || stream.headFromMs !== undefined || head.isReady?.() === false) return
    const isBusy = [...this.streams.values()].some(
      ({ headFromMs, queue }) =>
        headFromMs !== undefined && head.engine !== undefined && queue[0]!.engine === head.engine,
    )
    if (!isBusy) stream.headFromMs = this.nowMs
  }
}
