/** Counters and histograms on the way of every request. prom-client looks a series up by a string made of its labels
 * each time, 0.7 us a value; here a series is a few numbers that are found by one Map. prom-client shows them. */
import type { Metric, Registry } from 'prom-client'
import { registerSource } from './register-source.ts'

type LabelValues = readonly string[]

export class CounterSeries {
  value = 0

  inc(by = 1): void {
    this.value += by
  }
}

export class HistogramSeries {
  readonly bounds: readonly number[]
  /** One a bound, then those above all bounds; not cumulative. */
  readonly counts: Float64Array
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  /** @param times how often the value occurred */
  observe(value: number, times = 1): void {
    const { bounds } = this
    let place = 0
    while (place < bounds.length && value > bounds[place]!) place++
    this.counts[place]! += times
    this.sum += value * times
  }
}

/** The series of one metric, by the values of its labels; each begins when it is first asked for. */
export class Family<Series> {
  readonly #create: () => Series
  readonly #series = new Map<string, { readonly labelValues: LabelValues; readonly series: Series }>()

  constructor(create: () => Series) {
    this.#create = create
  }

  of(...labelValues: string[]): Series {
    const key = labelValues.length === 1 ? labelValues[0]! : labelValues.join('\n')
    let entry = this.#series.get(key)
    if (entry === undefined) {
      entry = { labelValues, series: this.#create() }
      this.#series.set(key, entry)
    }
    return entry.series
  }

  entries(): Iterable<{ readonly labelValues: LabelValues; readonly series: Series }> {
    return this.#series.values()
  }
}

/** Makes metrics and shows them in a registry. Without labels a metric is one series, there from the start. */
export class MetricFactory {
  readonly #registry: Registry

  constructor(registry: Registry) {
    this.#registry = registry
  }

  counter(name: string, help: string): CounterSeries {
    return this.counters(name, help, []).of()
  }

  counters(name: string, help: string, labelNames: readonly string[]): Family<CounterSeries> {
    const family = new Family(() => new CounterSeries())
    const read = () =>
      Array.from(family.entries(), ({ labelValues, series }) => ({
        labels: toLabels(labelNames, labelValues),
        value: series.value,
      }))
    registerSource(this.#registry, { name, help, type: 'counter', labelNames, read })
    return family
  }

  /** @param bounds ascending, inclusive */
  histogram(name: string, help: string, bounds: readonly number[]): HistogramSeries {
    return this.histograms(name, help, bounds, []).of()
  }

  histograms(
    name: string,
    help: string,
    bounds: readonly number[],
    labelNames: readonly string[],
  ): Family<HistogramSeries> {
    const family = new Family(() => new HistogramSeries(bounds))
    const get = () => {
      const values = Array.from(family.entries(), ({ labelValues, series }) =>
        toSamples(name, toLabels(labelNames, labelValues), series),
      ).flat()
      return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values })
    }
    // get() is all that a registry asks of a metric.
    this.#registry.registerMetric({ name, help, type: 'histogram', labelNames, get } as unknown as Metric)
    return family
  }

  /** Read at each scrape. */
  gauge(name: string, help: string, read: () => number): void {
    const readSamples = () => [{ labels: {}, value: read() }]
    registerSource(this.#registry, { name, help, type: 'gauge', labelNames: [], read: readSamples })
  }
}

function toSamples(
  name: string,
  labels: Readonly<Record<string, string>>,
  { bounds, counts, sum }: HistogramSeries,
): readonly { metricName: string; labels: object; value: number }[] {
  let count = 0
  const buckets = Array.from(counts, (own, place) => {
    count += own
    return { metricName: `${name}_bucket`, labels: { ...labels, le: bounds[place] ?? '+Inf' }, value: count }
  })
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: count },
  ]
}

function toLabels(names: readonly string[], values: LabelValues): Record<string, string> {
  return Object.fromEntries(names.map((name, i) => [name, values[i]!]))
}
