/** How far a bulk run is and how fast it goes. */

export interface BulkProgress {
  /** Vectors written, those of the runs before this one included. */
  readonly records: number
  /** Records of the input, where they are known. */
  readonly totalRecords?: number
  /** Tokens embedded, those of the runs before this one included. */
  readonly tokens: number
  /** Inputs that were cut to the model's length. */
  readonly truncated: number
  /** Records left out because they have no text. */
  readonly skipped: number
  /** Of this run. */
  readonly elapsedMs: number
  /** Of this run, since its start. */
  readonly recordsPerSecond: number
  readonly tokensPerSecond: number
  /** Part of the input that is done, 0 to 1, where it can be known. */
  readonly doneRatio?: number
  readonly remainingMs?: number
}

/** Counters at one moment. `position` is the index behind the last record done, `inputBytes` the bytes behind it. */
export interface BulkCounters {
  readonly records: number
  readonly tokens: number
  readonly truncated: number
  readonly skipped: number
  readonly position: number
  readonly inputBytes: number
}

/** Rates over this run (`start` are the counters it began with) and the time left, from rows where the input tells
 * how many it has, else from its bytes. */
export function toBulkProgress(options: {
  readonly start: BulkCounters
  readonly now: BulkCounters
  readonly elapsedMs: number
  readonly totalRecords: number | undefined
  readonly totalBytes: number | undefined
}): BulkProgress {
  const { start, now, elapsedMs, totalRecords, totalBytes } = options
  const perSecond = (count: number): number => (elapsedMs > 0 ? (count * 1000) / elapsedMs : 0)
  const [total, done, doneBefore] =
    totalRecords === undefined
      ? [totalBytes, now.inputBytes, start.inputBytes]
      : [totalRecords, now.position, start.position]
  const { records, tokens, truncated, skipped } = now
  return {
    records,
    tokens,
    truncated,
    skipped,
    elapsedMs,
    recordsPerSecond: perSecond(records - start.records),
    tokensPerSecond: perSecond(tokens - start.tokens),
    ...(totalRecords === undefined ? {} : { totalRecords }),
    ...(total === undefined ? {} : { doneRatio: total === 0 ? 1 : Math.min(1, done / total) }),
    ...(total === undefined || done <= doneBefore
      ? {}
      : { remainingMs: (elapsedMs * Math.max(0, total - done)) / (done - doneBefore) }),
  }
}
