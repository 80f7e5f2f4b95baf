/** Samples of this machine's GPUs, taken when they are asked for. */
import { loadNvml, type Nvml } from '../ffi/nvml.ts'
import { attempt, type GpuSample } from './gpu-sample.ts'
import { readJetsonSample } from './jetson-sample.ts'
import { readNvmlSamples } from './nvml-sample.ts'

export interface GpuMonitorOptions {
  /** Of libnvidia-ml; absent: none was found. */
  readonly nvmlPath: string | undefined
  /** A sample that is younger than this is told again. Default 1000: a scrape and a dashboard share it. */
  readonly sampleMs?: number
  readonly readJetson?: () => GpuSample | undefined
  /** A monotonic clock. */
  readonly nowMs?: () => number
}

export class GpuMonitor implements Disposable {
  #nvml: Nvml | undefined
  readonly #readJetson: () => GpuSample | undefined
  readonly #nowMs: () => number
  readonly #sampleMs: number
  #samples: readonly GpuSample[] = []
  #sampledMs = Number.NEGATIVE_INFINITY

  constructor({
    nvmlPath,
    sampleMs = 1000,
    readJetson = readJetsonSample,
    nowMs = () => performance.now(),
  }: GpuMonitorOptions) {
    this.#readJetson = readJetson
    this.#nowMs = nowMs
    this.#sampleMs = sampleMs
    this.#nvml = attempt(() => {
      if (nvmlPath === undefined) return undefined
      const nvml = loadNvml(nvmlPath)
      nvml.nvmlInit_v2()
      return nvml
    })
  }

  /** Empty on a machine without a GPU that tells of itself. */
  read(): readonly GpuSample[] {
    const nowMs = this.#nowMs()
    if (nowMs - this.#sampledMs >= this.#sampleMs) {
      this.#samples = this.#sample()
      this.#sampledMs = nowMs
    }
    return this.#samples
  }

  #sample(): readonly GpuSample[] {
    const nvml = this.#nvml
    const samples = nvml === undefined ? [] : (attempt(() => readNvmlSamples(nvml)) ?? [])
    // A Jetson's NVML, where there is one, may know the device and nothing of its load.
    if (samples.some(({ utilisation, clockMhz }) => (utilisation ?? clockMhz) !== undefined)) return samples
    const jetson = this.#readJetson()
    return jetson === undefined ? samples : [jetson]
  }

  [Symbol.dispose](): void {
    attempt(() => this.#nvml?.nvmlShutdown())
    this.#nvml = undefined
  }
}
