import { Counter, Gauge, type Registry } from 'prom-client'
import type { MetricSource } from '../../../telemetry/metric-source.ts'

/** Shows a measurement that is taken at each scrape. */
export function registerSource(registry: Registry, source: MetricSource): void {
  const labelNames = [...source.labelNames]
  const base = { name: source.name, help: source.help, labelNames, registers: [] }
  registry.registerMetric(
    source.type === 'gauge'
      ? new Gauge({
          ...base,
          collect() {
            this.reset() // a set of labels that is no longer read goes away
            for (const { labels, value } of source.read()) this.set(labels, value)
          },
        })
      : new Counter({
          ...base,
          collect() {
            this.reset()
            for (const { labels, value } of source.read()) this.inc(labels, value)
          },
        }),
  )
}
