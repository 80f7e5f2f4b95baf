/** docs/metrics.md, the dashboard and the alert rules against what the server really exposes. */
import { readFileSync } from 'node:fs'
import { type Metric, Registry } from 'prom-client'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { createGpuMetrics } from '../src/cli/gpu-metrics.ts'
import { tensorrtMetrics } from '../src/engines/tensorrt/tensorrt-metrics.ts'
import { errorCodes } from '../src/errors.ts'
import type { GpuContext } from '../src/hardware/gpu/context.ts'
import type { ServerContext } from '../src/serving/server/context.ts'
import { createAkidbMetrics } from '../src/serving/server/metrics/akidb-metrics.ts'
import { getProcessRegistry } from '../src/serving/server/metrics/process-metrics.ts'
import { SlidingMean } from '../src/serving/server/metrics/sliding-mean.ts'

interface KnownMetric {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly labelNames: readonly string[]
}

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

/** What an engine of TensorRT adds. */
const ofTensorrt = tensorrtMetrics(
  { device: {} } as GpuContext,
  {} as Parameters<typeof tensorrtMetrics>[1],
).map(({ name, type, help, labelNames }) => ({ name, type, help, labelNames }))

/** What `serve` adds where there are GPUs. */
const ofGpus = createGpuMetrics({ read: () => [] }).map(({ name, type, help, labelNames }) => ({
  name,
  type,
  help,
  labelNames,
}))

let ours: readonly KnownMetric[]
/** Every sample name (with _bucket, _sum, _count) and its labels. */
let labelsBySample: ReadonlyMap<string, readonly string[]>

beforeAll(() => {
  const registry = new Registry()
  const averages = { batchSize: new SlidingMean(), latencyMs: new SlidingMean() }
  createAkidbMetrics(registry, {} as ServerContext, averages)
  ours = [...listMetrics(registry), ...ofTensorrt, ...ofGpus]
  labelsBySample = new Map(
    [...ours, ...listMetrics(getProcessRegistry())].flatMap(({ name, type, labelNames }) =>
      type === 'histogram'
        ? [
            [`${name}_bucket`, [...labelNames, 'le']],
            [`${name}_sum`, labelNames],
            [`${name}_count`, labelNames],
          ]
        : [[name, labelNames]],
    ) as [string, readonly string[]][],
  )
})

it('docs/metrics.md lists every metric with its kind, labels and HELP', () => {
  const rows = read('docs/metrics.md').matchAll(/^\| `(embed_\w+)` +\|([^|]+)\|([^|]*)\|([^|]+)\|$/gm)
  const documented = [...rows].map(([, name, type, labels, help]) => ({
    name,
    type: type!.trim(),
    labelNames: [...labels!.matchAll(/`(\w+)`/g)].map((match) => match[1]),
    help: help!.trim(),
  }))
  expect(documented).toEqual(ours)
})

it('docs/metrics.md names no metric that does not exist', () => {
  const names = [...read('docs/metrics.md').matchAll(/`((?:embed|process|nodejs)_\w+)`/g)].map(
    (match) => match[1]!,
  )
  const known = new Set([
    ...labelsBySample.keys(),
    ...ours.map(({ name }) => name),
    'nodejs_gc_duration_seconds',
  ])
  for (const name of names) expect(known).toContain(name)
})

describe('docs/grafana/akidb-embedding.json', () => {
  interface Panel {
    readonly id: number
    readonly type: string
    readonly title: string
    readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number }
    readonly datasource?: { readonly uid: string }
    readonly targets?: readonly { readonly expr: string; readonly refId: string }[]
  }
  const dashboard = JSON.parse(read('docs/grafana/akidb-embedding.json')) as {
    readonly schemaVersion: number
    readonly panels: readonly Panel[]
    readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] }
  }
  const { panels } = dashboard
  const graphs = panels.filter((panel) => panel.type !== 'row')

  it('is what Grafana 10 reads: ids once, panels side by side, one data source to choose', () => {
    expect(dashboard.schemaVersion).toBe(38)
    expect(new Set(panels.map((panel) => panel.id)).size).toBe(panels.length)
    for (const [i, { title, gridPos }] of panels.entries()) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
      for (const other of panels.slice(i + 1))
        expect(overlaps(gridPos, other.gridPos), `${title} on ${other.title}`).toBe(false)
    }
    for (const { title, datasource, targets } of graphs) {
      expect(datasource?.uid, title).toBe('${datasource}')
      expect(new Set(targets!.map((target) => target.refId)).size, title).toBe(targets!.length)
    }
  })

  it('has a row a question', () => {
    const rows = panels.filter((panel) => panel.type === 'row').map((panel) => panel.title.split(':')[0])
    expect(rows).toEqual(['Traffic', 'Latency', 'Batching', 'Queue', 'Engine', 'Process'])
  })

  it('asks only for metrics, labels, codes and variables that exist', () => {
    const variables = new Set([...dashboard.templating.list.map(({ name }) => name), '__rate_interval'])
    const expressions = graphs.flatMap((panel) => panel.targets!.map((target) => target.expr))
    expect(expressions.length).toBeGreaterThan(30)
    for (const expression of expressions) {
      checkExpression(expression)
      for (const [, name] of expression.matchAll(/\$\{?(\w+)/g)) expect(variables, expression).toContain(name)
    }
    for (const { definition } of dashboard.templating.list) {
      if (definition !== undefined) checkExpression(/label_values\((.+), \w+\)/.exec(definition)![1]!)
    }
  })
})

describe('docs/prometheus/alerts.yml', () => {
  interface Rule {
    readonly alert: string
    readonly expr: string
    readonly for?: string
    readonly labels: { readonly severity: string }
    readonly annotations: { readonly summary: string; readonly description: string }
  }
  const { groups } = parse(read('docs/prometheus/alerts.yml')) as {
    groups: { name: string; rules: Rule[] }[]
  }
  const rules = groups.flatMap((group) => group.rules)

  it('has well-formed rules, each once', () => {
    expect(new Set(rules.map((rule) => rule.alert)).size).toBe(rules.length)
    for (const rule of rules) {
      const known = new Set(['alert', 'expr', 'for', 'labels', 'annotations'])
      expect(Object.keys(rule).filter((key) => !known.has(key))).toEqual([])
      expect(rule.for ?? '1m', rule.alert).toMatch(/^\d+[smh]$/)
      expect(['page', 'ticket', 'info'], rule.alert).toContain(rule.labels.severity)
      expect(rule.annotations.summary, rule.alert).toContain('$labels.instance')
      expect(rule.annotations.description.length, rule.alert).toBeGreaterThan(20)
    }
  })

  it('watches readiness, errors, refusals, the queue, the objective and the event loop', () => {
    const watched = rules.map((rule) => rule.expr).join('\n')
    for (const name of [
      'embed_ready',
      'embed_failures_total',
      'embed_rejections_total',
      'embed_queue_wait_seconds_bucket',
      'embed_latency_objective_seconds',
      'nodejs_eventloop_lag_p99_seconds',
    ])
      expect(watched).toContain(name)
  })

  it('asks only for metrics, labels and codes that exist', () => {
    expect(rules.length).toBeGreaterThan(5)
    for (const { expr } of rules) checkExpression(expr)
  })
})

function listMetrics(registry: Registry): KnownMetric[] {
  return registry
    .getMetricsAsArray()
    .map((metric) => metric as unknown as Metric & KnownMetric)
    .map(({ name, type, labelNames, help }) => ({ name, type, labelNames, help }))
}

/** Metrics with their matchers, and what is grouped by. */
function checkExpression(expression: string): void {
  for (const [open, close] of ['()', '{}', '[]'])
    expect(expression.split(open!).length, expression).toBe(expression.split(close!).length)
  const grouped = [...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap((match) => match[1]!.split(/, ?/))
  const selectors = [...expression.matchAll(/\b((?:embed|process|nodejs)_\w+|up)\b(?:\{([^}]*)\})?/g)]
  expect(selectors.length, expression).toBeGreaterThan(0)
  const groupable = new Set<string>()
  for (const [, name, matchers = ''] of selectors) {
    const labels = name === 'up' ? [] : labelsBySample.get(name!)
    expect(labels, `${name} in ${expression}`).toBeDefined()
    const known = [...labels!, 'job', 'instance']
    for (const [, label, , pattern] of matchers.matchAll(/(\w+)(=~|!~|!=|=)"([^"]*)"/g)) {
      expect(known, expression).toContain(label)
      if (label !== 'code') continue
      for (const code of pattern!.split('|'))
        expect(
          errorCodes.some((existing) => new RegExp(`^${code}$`).test(existing)),
          `${code} in ${expression}`,
        ).toBe(true)
    }
    for (const label of known) groupable.add(label)
  }
  for (const label of grouped) expect(groupable, `by ${label} in ${expression}`).toContain(label)
}

function overlaps(
  a: { h: number; w: number; x: number; y: number },
  b: { h: number; w: number; x: number; y: number },
): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
}
