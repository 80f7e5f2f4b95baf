/** What docs/deploy tells others to run: valid, consistent with itself and with the program. */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { knobs } from '../../src/config/schema.ts'
import { installKubernetesValidate, readYaml, validateManifests } from '../fixtures/kubernetes-validate.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const deploy = join(repository, 'docs/deploy')
const manifests = readdirSync(join(deploy, 'kubernetes'))
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => join(deploy, 'kubernetes', name))
const validator = await installKubernetesValidate()
const defaults = loadConfig()

it('names only variables and flags that exist', () => {
  const variables = new Set(knobs.map((knob) => knob.variable))
  const flags = new Set(knobs.map((knob) => knob.flag))
  const pages = [
    'Dockerfile',
    'docs/security.md',
    'docs/deploy/README.md',
    'docs/deploy/akidb-embedding.service',
  ]
  const texts = [...pages.map((page) => join(repository, page)), ...manifests].map((path) =>
    readFileSync(path, 'utf8'),
  )
  const named = texts.flatMap((text) => [...text.matchAll(/\bAKIDB_[A-Z_]+\b/g)].map(([name]) => name))
  expect(named.length).toBeGreaterThan(10)
  expect(named.filter((name) => !variables.has(name) && name !== 'AKIDB_CONFIG')).toEqual([])
  const given = texts.flatMap((text) =>
    [...text.matchAll(/(?<=serve[^\n`]*\s)--[a-z][a-z-]+/g)].map(([flag]) => flag),
  )
  expect(given.filter((flag) => !flags.has(flag) && flag !== '--config')).toEqual([])
})

/** What systemd-analyze has against a unit. */
const analyze = (path: string): Promise<string> =>
  promisify(execFile)('systemd-analyze', ['verify', path]).then(
    ({ stderr }) => stderr,
    (error: { stderr: string }) => `failed: ${error.stderr}`,
  )

describe('the systemd unit', () => {
  const unit = readFileSync(join(deploy, 'akidb-embedding.service'), 'utf8')
  const valueOf = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(unit)?.[1]

  it('waits longer than the drain, reloads by SIGHUP, and gives no rights', () => {
    const drainMs = defaults.shutdownDelayMs + defaults.drainTimeoutMs
    expect(Number(valueOf('TimeoutStopSec')) * 1000).toBeGreaterThanOrEqual(drainMs + 5000)
    expect(valueOf('ExecReload')).toBe('/usr/bin/kill -HUP $MAINPID')
    expect(valueOf('RestartPreventExitStatus')).toBe('2')
    for (const [key, value] of [
      ['DynamicUser', 'yes'],
      ['ProtectSystem', 'strict'],
      ['NoNewPrivileges', 'yes'],
      ['CapabilityBoundingSet', ''],
    ] as const) {
      expect([key, valueOf(key)]).toEqual([key, value])
    }
  })

  it('says nothing that systemd does not understand, where there is systemd', async () => {
    if (!existsSync('/usr/bin/systemd-analyze')) return
    expect(await analyze(join(deploy, 'akidb-embedding.service'))).toBe('')
    // The check itself finds what is wrong.
    const folder = await mkdtemp(join(tmpdir(), 'akidb-unit-'))
    await writeFile(join(folder, 'wrong.service'), unit.replace('TimeoutStopSec=40', 'TimeoutStopSecs=40'))
    expect(await analyze(join(folder, 'wrong.service'))).toContain('TimeoutStopSecs')
    await rm(folder, { recursive: true })
  })
})

describe.skipIf(validator === undefined)('the Kubernetes manifests (kubernetes-validate by pip)', () => {
  interface Probe {
    httpGet: { path: string; port: string }
    periodSeconds: number
    failureThreshold: number
  }
  interface Deployment {
    metadata: { name: string }
    spec: {
      template: {
        metadata: { labels: Record<string, string> }
        spec: {
          terminationGracePeriodSeconds: number
          containers: {
            env: { name: string; value?: string }[]
            ports: { name: string; containerPort: number }[]
            startupProbe: Probe
            readinessProbe: Probe
            livenessProbe: Probe
            volumeMounts: { name: string; mountPath: string }[]
          }[]
        }
      }
    }
  }
  const readManifest = async (name: string) =>
    (await readYaml(validator!, join(deploy, 'kubernetes', `${name}.yaml`))) as never

  it('are what Kubernetes takes', async () => {
    const said = await validateManifests(validator!, manifests)
    expect(said.match(/ passed for resource /g)).toHaveLength(manifests.length)
    expect(manifests.length).toBeGreaterThanOrEqual(4)
    // The check itself finds what is wrong.
    const folder = await mkdtemp(join(tmpdir(), 'akidb-manifests-'))
    const wrong = readFileSync(join(deploy, 'kubernetes/deployment.yaml'), 'utf8').replace(
      'readinessProbe',
      'readyProbe',
    )
    await writeFile(join(folder, 'wrong.yaml'), wrong)
    expect(await validateManifests(validator!, [join(folder, 'wrong.yaml')])).toMatch(
      /'readyProbe' was unexpected/,
    )
    await rm(folder, { recursive: true })
  })

  it('probe routes that exist and give the drain its time', async () => {
    const deployment: Deployment = await readManifest('deployment')
    const { spec } = deployment.spec.template
    const [container] = spec.containers
    const valueOf = (name: string) => container!.env.find((variable) => variable.name === name)?.value
    const drainMs = Number(valueOf('AKIDB_SHUTDOWN_DELAY_MS')) + Number(valueOf('AKIDB_DRAIN_TIMEOUT_MS'))
    expect(spec.terminationGracePeriodSeconds * 1000).toBeGreaterThanOrEqual(drainMs + 5000)
    const { startupProbe, readinessProbe, livenessProbe } = container!
    expect([startupProbe, readinessProbe, livenessProbe].map((probe) => probe.httpGet)).toEqual([
      { path: '/readyz', port: 'http' },
      { path: '/readyz', port: 'http' },
      { path: '/livez', port: 'http' },
    ])
    // The balancer must have heard of it before the server is deaf.
    const { periodSeconds, failureThreshold } = readinessProbe
    expect(periodSeconds * failureThreshold * 1000).toBeLessThan(Number(valueOf('AKIDB_SHUTDOWN_DELAY_MS')))
    expect(container!.ports).toEqual([{ name: 'http', containerPort: defaults.port }])
    const keys = container!.volumeMounts.find((mount) => mount.name === 'keys')!.mountPath
    expect(valueOf('AKIDB_API_KEYS_FILE')!.startsWith(`${keys}/`)).toBe(true)
    expect(container!.volumeMounts.map((mount) => mount.mountPath)).toContain('/cache')
  })

  it('fit together, and scale on a metric that the server has', async () => {
    const deployment: Deployment = await readManifest('deployment')
    const { labels } = deployment.spec.template.metadata
    const service: { spec: { selector: object; ports: { targetPort: string }[] } } =
      await readManifest('service')
    const budget: { spec: { selector: { matchLabels: object } } } =
      await readManifest('pod-disruption-budget')
    expect([service.spec.selector, budget.spec.selector.matchLabels]).toEqual([labels, labels])
    expect(service.spec.ports[0]!.targetPort).toBe('http')
    const scaler: {
      spec: { scaleTargetRef: { name: string }; metrics: { pods: { metric: { name: string } } }[] }
    } = await readManifest('horizontal-pod-autoscaler')
    expect(scaler.spec.scaleTargetRef.name).toBe(deployment.metadata.name)
    const adapter = (await readYaml(validator!, join(deploy, 'prometheus-adapter.yaml'))) as {
      rules: { custom: { seriesQuery: string; name: { as: string } }[] }
    }
    const [rule] = adapter.rules.custom
    expect(scaler.spec.metrics.map(({ pods }) => pods.metric.name)).toEqual([rule!.name.as])
    const metrics = readFileSync(join(repository, 'src/serving/server/metrics/akidb-metrics.ts'), 'utf8')
    expect(metrics).toContain(`'${rule!.seriesQuery.split('_bucket')[0]}'`)
  })
})
