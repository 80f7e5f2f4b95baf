/** What the TensorRT engine tells of itself in /metrics. */
import type { GpuContext } from '../../hardware/gpu/context.ts'
import type { MetricSource } from '../../telemetry/metric-source.ts'
import type { LaneParts } from './execution-lane.ts'

export function tensorrtMetrics(
  gpu: GpuContext,
  { counts, graphShapes }: Pick<LaneParts, 'counts' | 'graphShapes'>,
): readonly MetricSource[] {
  const labels = { gpu: gpu.device.uuid }
  return [
    {
      name: 'embed_gpu_memory_bytes',
      help: 'Memory of the GPU by state, all processes together',
      type: 'gauge',
      labelNames: ['gpu', 'state'],
      read() {
        if (gpu.isFreed) return []
        const { freeBytes, totalBytes } = gpu.readMemory()
        return [
          { labels: { ...labels, state: 'used' }, value: totalBytes - freeBytes },
          { labels: { ...labels, state: 'free' }, value: freeBytes },
        ]
      },
    },
    {
      name: 'embed_gpu_launches_total',
      help: 'Batches given to the GPU: as a CUDA graph, or kernel by kernel (plain)',
      type: 'counter',
      labelNames: ['kind'],
      read: () => [
        { labels: { kind: 'graph' }, value: counts.graphLaunches },
        { labels: { kind: 'plain' }, value: counts.plainEnqueues },
      ],
    },
    {
      name: 'embed_gpu_graphs',
      help: 'Shapes that have a CUDA graph',
      type: 'gauge',
      labelNames: [],
      read: () => [{ labels: {}, value: graphShapes.count }],
    },
  ]
}
