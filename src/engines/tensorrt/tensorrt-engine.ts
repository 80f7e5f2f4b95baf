/** TensorRT's plans behind the engine contract: pinned buffers, four streams, a CUDA graph for each shape that comes again. */
import { EmbedError } from '../../errors.ts'
import { Runtime } from '../../hardware/ffi/tensorrt/runtime.ts'
import { type GpuContext, openGpu } from '../../hardware/gpu/context.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { WaitMode } from '../../hardware/gpu/event.ts'
import { type StageTimes, StreamPool } from '../../hardware/gpu/stream-pool.ts'
import type { TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Engine } from '../engine.ts'
import type { RectangleShapes } from '../rectangular/padding.ts'
import { createRectangularEngine } from '../rectangular/rectangular-engine.ts'
import { loadEmbeddingTable } from './embedding-table.ts'
import { ExecutionLane, type LaneParts } from './execution-lane.ts'
import { GraphShapes } from './graph-shapes.ts'
import { type LoadedPlan, loadPlan } from './loaded-plan.ts'
import type { Plan } from './plan.ts'
import { ProfileShapes } from './profile-shapes.ts'
import { tensorrtMetrics } from './tensorrt-metrics.ts'
import { warmUp } from './warm-up.ts'

export interface TensorrtEngineOptions {
  readonly spec: ModelSpec
  /** Driver and TensorRT, open. */
  readonly machine: Pick<TensorrtMachine, 'cuda' | 'tensorrt'>
  /** One or more, with the same inputs, output and precision. */
  readonly plans: readonly Plan[]
  /** Batches under way at once: one computes while another is copied. Default 2. */
  readonly lanes?: number | undefined
  /** Most shapes that have a CUDA graph; 0: none. Default 32. */
  readonly graphs?: number | undefined
  /** Runs the common shapes at the start, so that the first requests find their graphs. Default true. */
  readonly warmUp?: boolean | undefined
  /** How the end of a batch is waited for. Default 'poll'. */
  readonly wait?: WaitMode | undefined
  readonly onNote?: ((note: string) => void) | undefined
  /** When each stage of each rectangle ran, by the GPU's clock; costs a few events a batch. */
  readonly onStageTimes?: ((times: StageTimes) => void) | undefined
}

/** 1 x 16 tokens take as long as 1 x 256: what one more run costs. */
const overheadCells = 256

/** Loads the plans off the event loop.
 * @throws {EmbedError} ENGINE_UNAVAILABLE, FILE_UNREADABLE, GPU_OUT_OF_MEMORY, CUDA_STATUS, TENSORRT_FAILED */
export async function createTensorrtEngine(options: TensorrtEngineOptions): Promise<Engine> {
  const { cuda, tensorrt } = options.machine
  const { spec, lanes: laneCount = 2, graphs = 32 } = options
  const gpu = await openGpu(cuda)
  let runtime: Runtime | undefined
  const dispose = () => {
    try {
      // Contexts, engines: TensorRT's before the GPU's.
      runtime?.[Symbol.dispose]()
    } finally {
      gpu[Symbol.dispose]()
    }
  }
  try {
    runtime = new Runtime(tensorrt)
    const plans = await loadPlans(runtime, options)
    const shapes = new ProfileShapes(plans.map(({ profiles }) => profiles))
    const graphShapes = new GraphShapes(graphs)
    const { inputs, output, plan } = plans[0]!
    const rows = inputs.find(({ role }) => role === 'embeddings')
    const parts: LaneParts = {
      gpu,
      streams: new StreamPool(gpu, {
        timing: options.onStageTimes !== undefined,
        wait: options.wait ?? 'poll',
      }),
      plans,
      shapes,
      graphShapes,
      scratch: allocateScratch(gpu, plans),
      padTokenId: spec.padTokenId,
      table: rows === undefined ? undefined : await loadEmbeddingTable(spec, rows.cellBytes),
      counts: { graphLaunches: 0, plainEnqueues: 0, recordings: 0, lastRecordingMs: 0 },
      onNote: options.onNote ?? (() => undefined),
      onStageTimes: options.onStageTimes,
    }
    const lanes = Array.from({ length: laneCount }, () => new ExecutionLane(parts))
    if (options.warmUp ?? true) await warmUp(lanes, parts)
    const taken = takenShapes(shapes, graphShapes)
    const engine = createRectangularEngine({
      info: {
        name: 'tensorrt',
        device: gpu.device.name,
        precision: plan.precision,
        runtimeVersion: tensorrt.versionText,
        dimensions: output.dimensions,
        maxTokens: Math.min(spec.maxTokens, shapes.maxTokens),
        maxBatchSize: shapes.maxRows,
        memoryBytes: sumBytes(parts, lanes),
        outputs: output.kind === 'tokens' ? ['pooled', 'tokens'] : ['pooled'],
        concurrency: laneCount,
      },
      pooling: spec.pooling,
      outputKind: output.kind,
      shapes: { shared: taken, exclusive: taken },
      runners: { shared: lanes },
      isOutOfMemory: (reason) =>
        /OUT_OF_MEMORY|out of memory|OutOfMemory|no (device|pinned) memory/i.test(reason),
      dispose,
    })
    return { ...engine, metrics: tensorrtMetrics(gpu, parts) }
  } catch (error) {
    dispose()
    throw error
  }
}

async function loadPlans(
  runtime: Runtime,
  { plans, spec }: TensorrtEngineOptions,
): Promise<readonly LoadedPlan[]> {
  const loaded: LoadedPlan[] = []
  // One after the other: each needs the GPU's memory twice for a moment.
  for (const plan of plans) loaded.push(await loadPlan(runtime, plan, spec.hiddenSize))
  const kinds = loaded.map(({ inputs, output }) => JSON.stringify([inputs, output]))
  if (loaded.length > 0 && new Set(kinds).size === 1) return loaded
  throw new EmbedError('ENGINE_UNAVAILABLE', {
    engine: 'tensorrt',
    reason:
      loaded.length === 0
        ? 'there is no plan'
        : `the plans ${plans.map(({ path }) => path).join(', ')} differ in inputs or outputs`,
    fix: "'akidb-embedding build' makes plans that belong together",
  })
}

/** Sequences that no profile holds together run apart. */
function takenShapes(shapes: ProfileShapes, graphShapes: GraphShapes): RectangleShapes {
  return {
    maxRows: shapes.maxRows,
    cost(rows, length) {
      const shape = shapes.fit(rows, length)
      return shape === undefined ? Infinity : overheadCells + shape.rows * shape.tokens
    },
    paddedLength: (rows, length) => graphShapes.prefer(shapes.fit(rows, length)!).tokens,
  }
}

function allocateScratch(gpu: GpuContext, plans: readonly LoadedPlan[]): DeviceBuffer {
  // A plan may need none; a buffer of none cannot be had.
  const bytes = Math.max(256, ...plans.map(({ contextBytes }) => contextBytes))
  return new DeviceBuffer(gpu, 'execution contexts', bytes)
}

/** A plan's file is little more than its weights. */
function sumBytes({ plans, scratch, table }: LaneParts, lanes: readonly ExecutionLane[]): number {
  const weights = plans.reduce((sum, { plan }) => sum + plan.sizeBytes, 0)
  const staging = lanes.reduce((sum, { bytes }) => sum + bytes, 0)
  return weights + scratch.bytes + staging + (table?.bytes ?? 0)
}
