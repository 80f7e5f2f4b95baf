/** A measurement that someone outside the server takes, e.g. of a GPU; the server shows it in /metrics. */

export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface MetricSource {
  /** With the unit as suffix; a counter ends in _total. */
  readonly name: string
  /** One sentence. */
  readonly help: string
  readonly type: 'gauge' | 'counter'
  readonly labelNames: readonly string[]
  /** Called at each scrape; one sample a set of labels. */
  read(): readonly MetricSample[]
}
