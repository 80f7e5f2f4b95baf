/** What GPUs do, for /metrics. */
import type { GpuMonitor } from '../hardware/machine/gpu-monitor.ts'
import { type GpuSample, throttleReasons } from '../hardware/machine/gpu-sample.ts'
import type { MetricSource } from '../telemetry/metric-source.ts'

/** Of all GPUs that the driver shows to this process, whoever uses them. @param monitor borrowed */
export function createGpuMetrics(monitor: Pick<GpuMonitor, 'read'>): MetricSource[] {
  const gauge = (
    name: string,
    help: string,
    valueOf: (sample: GpuSample) => number | undefined,
  ): MetricSource => ({
    name,
    help,
    type: 'gauge',
    labelNames: ['gpu'],
    read: () =>
      monitor.read().flatMap((sample) => {
        const value = valueOf(sample)
        return value === undefined ? [] : { labels: { gpu: sample.uuid }, value }
      }),
  })
  return [
    gauge(
      'embed_gpu_utilisation_ratio',
      'Share of the last sample in which a kernel ran',
      (gpu) => gpu.utilisation,
    ),
    gauge(
      'embed_gpu_memory_utilisation_ratio',
      'Share of the last sample in which memory was read or written',
      (gpu) => gpu.memoryUtilisation,
    ),
    gauge('embed_gpu_memory_used_bytes', 'Memory in use, all processes together', (gpu) => gpu.usedBytes),
    gauge('embed_gpu_memory_total_bytes', 'Memory of the GPU', (gpu) => gpu.totalBytes),
    gauge('embed_gpu_clock_hertz', 'Clock of the multiprocessors', ({ clockMhz }) => toHertz(clockMhz)),
    gauge('embed_gpu_memory_clock_hertz', 'Clock of the memory', ({ memoryClockMhz }) =>
      toHertz(memoryClockMhz),
    ),
    gauge('embed_gpu_power_watts', 'Power drawn', (gpu) => gpu.powerWatts),
    gauge('embed_gpu_power_limit_watts', 'Power that the GPU may draw', (gpu) => gpu.powerLimitWatts),
    gauge('embed_gpu_temperature_celsius', 'Temperature of the chip', (gpu) => gpu.temperatureCelsius),
    {
      name: 'embed_gpu_throttled',
      help: 'Whether the clock is held back for this reason: 1 or 0',
      type: 'gauge',
      labelNames: ['gpu', 'reason'],
      read: () =>
        monitor.read().flatMap(({ uuid, throttleReasons: found }) =>
          found === undefined
            ? []
            : throttleReasons.map((reason) => ({
                labels: { gpu: uuid, reason },
                value: found.includes(reason) ? 1 : 0,
              })),
        ),
    },
  ]
}

function toHertz(mhz: number | undefined): number | undefined {
  return mhz === undefined ? undefined : mhz * 1e6
}
