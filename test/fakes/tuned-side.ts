/** A machine to tune that is arithmetic: speed, quality and failures are what a test says of the settings, plus noise. */
import type { Random } from '../../src/tuning/measure/random.ts'
import type { Settings, Side, Slice, StartSide } from '../../src/tuning/tuner/side.ts'

export interface FakeMachine {
  /** Texts a second of these settings. */
  readonly speed: (settings: Settings) => number
  /** Worst cosine; default 0.9999. */
  readonly cosine?: (settings: Settings) => number
  /** Where it fails; default nowhere. */
  readonly fails?: (settings: Settings) => 'start' | 'measure' | 'assess' | undefined
  /** By scenario, factor of the speed; default 1 everywhere. */
  readonly factor?: (settings: Settings, scenario: string) => number
  readonly rssBytes?: (settings: Settings) => number
  /** Standard deviation of the log of a round's rate. */
  readonly noise: number
  readonly random: Random
}

export interface FakeMachineState {
  readonly start: StartSide
  /** Sides that are not disposed. */
  readonly open: Set<Side>
  readonly started: Settings[]
}

export const fakeScenarios = ['1 client', '4 clients', '16 clients'] as const

export function createFakeMachine(machine: FakeMachine): FakeMachineState {
  const open = new Set<Side>()
  const started: Settings[] = []
  const start: StartSide = (settings) => {
    started.push(settings)
    const failure = machine.fails?.(settings)
    if (failure === 'start') return Promise.reject(new Error('planted failure at the start'))
    const cosine = machine.cosine?.(settings) ?? 0.9999
    const passed = cosine >= 0.99
    const side: Side = {
      info: {
        engine: settings.engine ?? 'auto',
        precision: settings.precision ?? 'auto',
        device: 'fake',
        runtimeVersion: '1',
        memoryBytes: 2 ** 30,
        modelHash: 'hash',
      },
      measure: () =>
        failure === 'measure'
          ? Promise.reject(new Error('planted crash: the process ended with SIGSEGV'))
          : Promise.resolve(measure(machine, settings)),
      assess: () =>
        failure === 'assess'
          ? Promise.reject(new Error('planted crash: the process ended with SIGSEGV'))
          : Promise.resolve({
              passed,
              worstCosine: cosine,
              checks: [{ name: 'worst cosine', value: cosine, limit: 0.99, isAtLeast: true, passed }],
            }),
      [Symbol.asyncDispose]: () => {
        open.delete(side)
        return Promise.resolve()
      },
    }
    open.add(side)
    return Promise.resolve(side)
  }
  return { start, open, started }
}

function measure(machine: FakeMachine, settings: Settings): Slice {
  const scenarios = fakeScenarios.map((scenario) => {
    const factor = machine.factor?.(settings, scenario) ?? 1
    const textsPerSecond =
      machine.speed(settings) * factor * Math.exp(machine.noise * drawNormal(machine.random))
    const p50Ms = 1000 / textsPerSecond
    return [scenario, { textsPerSecond, p50Ms, p95Ms: 2 * p50Ms, p99Ms: 3 * p50Ms }] as const
  })
  return { scenarios: Object.fromEntries(scenarios), rssBytes: machine.rssBytes?.(settings) ?? 2 ** 28 }
}

/** Box and Muller. */
export function drawNormal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
}
