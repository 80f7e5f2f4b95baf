/** What the driver says of the GPUs while something runs: its utilisation stands beside that of the records. */
import type { GpuSample } from '../../hardware/machine/gpu-sample.ts'

/** Means over the samples, where the GPU tells. */
export interface GpuLoad {
  readonly uuid: string
  readonly samples: number
  /** Share of the time in which any kernel ran, pauses within a batch included: 0 to 1. */
  readonly utilisation: number | undefined
  readonly clockMhz: number | undefined
  readonly powerWatts: number | undefined
  readonly powerLimitWatts: number | undefined
  /** The highest. */
  readonly usedBytes: number | undefined
  readonly temperatureCelsius: number | undefined
  /** Those of any sample. */
  readonly throttleReasons: readonly string[]
}

/** NVML's own samples are 1/6 s to 1 s long. */
const intervalMs = 200

/** Samples from its making on, the first time after an interval. */
export class GpuLoadRecorder implements Disposable {
  readonly #samples: GpuSample[] = []
  readonly #timer: NodeJS.Timeout

  /** @param read gives fresh samples, one a GPU */
  constructor(read: () => readonly GpuSample[], everyMs: number = intervalMs) {
    this.#timer = setInterval(() => this.#samples.push(...read()), everyMs)
    this.#timer.unref()
  }

  /** One a GPU; empty where the run was shorter than an interval. */
  stop(): GpuLoad[] {
    this[Symbol.dispose]()
    return [...new Set(this.#samples.map(({ uuid }) => uuid))].map((uuid) =>
      summariseLoad(
        uuid,
        this.#samples.filter((sample) => sample.uuid === uuid),
      ),
    )
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

function summariseLoad(uuid: string, samples: readonly GpuSample[]): GpuLoad {
  const known = (valueOf: (sample: GpuSample) => number | undefined) =>
    samples.map(valueOf).filter((value) => value !== undefined)
  const mean = (valueOf: (sample: GpuSample) => number | undefined) => {
    const values = known(valueOf)
    return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length
  }
  const most = (valueOf: (sample: GpuSample) => number | undefined) => {
    const values = known(valueOf)
    return values.length === 0 ? undefined : Math.max(...values)
  }
  return {
    uuid,
    samples: samples.length,
    utilisation: mean((sample) => sample.utilisation),
    clockMhz: mean((sample) => sample.clockMhz),
    powerWatts: mean((sample) => sample.powerWatts),
    powerLimitWatts: mean((sample) => sample.powerLimitWatts),
    usedBytes: most((sample) => sample.usedBytes),
    temperatureCelsius: most((sample) => sample.temperatureCelsius),
    throttleReasons: [...new Set(samples.flatMap(({ throttleReasons = [] }) => throttleReasons))],
  }
}

/** 'driver: 97 % busy, 1755 MHz, 612 of 700 W, 64 °C, held back by power limit' */
export function formatGpuLoad(load: GpuLoad): string {
  const { utilisation, clockMhz, powerWatts, powerLimitWatts, temperatureCelsius, throttleReasons } = load
  const limit = powerLimitWatts === undefined ? '' : ` of ${powerLimitWatts.toFixed(0)}`
  const parts = [
    utilisation === undefined ? undefined : `${(100 * utilisation).toFixed(0)} % busy`,
    clockMhz === undefined ? undefined : `${clockMhz.toFixed(0)} MHz`,
    powerWatts === undefined ? undefined : `${powerWatts.toFixed(0)}${limit} W`,
    temperatureCelsius === undefined ? undefined : `${temperatureCelsius.toFixed(0)} °C`,
    throttleReasons.length === 0 ? undefined : `held back by ${throttleReasons.join(', ')}`,
  ].filter((part) => part !== undefined)
  return `driver, ${load.uuid}: ${parts.length === 0 ? 'tells nothing' : parts.join(', ')}`
}
