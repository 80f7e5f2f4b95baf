/** docs/metrics.md against the code, both ways. */
import { readFileSync } from 'node:fs'
import { type Metric, Registry } from 'prom-client'
import { expect, it } from 'vitest'
import type { ServerContext } from '../src/serving/server/context.ts'
import { createAkidbMetrics } from '../src/serving/server/metrics/akidb-metrics.ts'
import { SlidingMean } from '../src/serving/server/metrics/sliding-mean.ts'

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

it('docs/metrics.md lists every metric with its kind, labels and HELP', () => {
  const registry = new Registry()
  createAkidbMetrics(registry, {} as ServerContext, {
    batchSize: new SlidingMean(),
    latencyMs: new SlidingMean(),
  })
  const exposed = registry
    .getMetricsAsArray()
    .map(
      (metric) =>
        metric as unknown as Metric & { name: string; type: string; help: string; labelNames: string[] },
    )
    .map(({ name, type, help, labelNames }) => [name, type, labelNames.join(' '), help])
  const documented = [
    ...read('docs/metrics.md').matchAll(/^\| `(embed_\w+)` +\|([^|]+)\|([^|]*)\|([^|]+)\|$/gm),
  ].map(([, name, type, labels, help]) => [
    name,
    type!.trim(),
    labels!.replaceAll(/[`,]/g, '').trim(),
    help!.trim(),
  ])
  expect(documented).toEqual(exposed)
})
