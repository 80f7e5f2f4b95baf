/** One engine under one workload, seen from inside: stages of the requests, kernels of a GPU or nodes of a CPU's graph. */
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import type { EngineInfo } from '../../engines/engine.ts'
import { EmbedError } from '../../errors.ts'
import { ActivityRecorder } from '../../hardware/gpu/activity-recorder.ts'
import type { CudaLibrary } from '../../hardware/machine/cuda-libraries.ts'
import type { GpuSample } from '../../hardware/machine/gpu-sample.ts'
import type { EmbeddingPipeline } from '../../serving/pipeline/embedding-pipeline.ts'
import { type StartOptions, startPipeline } from '../../serving/pipeline/start-pipeline.ts'
import type { MachinePeak } from '../limits/speed-of-light.ts'
import { type CountTokens, type Workload, createTokenCounter } from '../measure/workload.ts'
import { type Assessment, assessProfile } from './assess-profile.ts'
import { type GpuLoad, GpuLoadRecorder } from './gpu-load.ts'
import type { GpuProfile } from './gpu-profile.ts'
import { type HostProfile, summariseHost } from './host-profile.ts'
import { HostRecorder, type HostRecording } from './host-recorder.ts'
import { type NodeProfile, summariseNodes } from './node-summary.ts'
import { type ProductRate, rateModelProducts } from './product-rate.ts'
import { recordWork, summariseRecorded } from './record-work.ts'
import type { ProfileRecords } from './records.ts'

export interface EngineProfile extends Assessment {
  readonly engine: Pick<EngineInfo, 'name' | 'runtimeVersion' | 'precision' | 'device'>
  readonly model: string
  readonly workload: string
  readonly clients: number
  readonly host: HostProfile
  /** Of a GPU's engine. */
  readonly gpu?: GpuProfile
  /** What the driver says of the machine's GPUs meanwhile. */
  readonly gpuLoads?: readonly GpuLoad[]
  /** What its products with the weights reached. */
  readonly products?: ProductRate
  /** Of a CPU's engine, measured on an engine of its own after the rest. */
  readonly nodes?: NodeProfile
}

export interface ProfileOptions {
  readonly start: StartOptions
  readonly makeWorkload: (countTokens: CountTokens) => Promise<Workload>
  /** Requests that are recorded; a tenth as many and at least 3 go before, unrecorded. */
  readonly iterations: number
  /** Requests under way at once. Default 1. */
  readonly clients?: number
  /** CUPTI, and where it was searched; asked for before an engine starts that runs on a GPU. Absent: kernels are not recorded. */
  readonly findCupti?: () => Promise<CudaLibrary>
  /** Calls of CUDA's API too, which slows the run down. */
  readonly apiCalls?: boolean
  /** What the GPU can do at most; asked for when its engine has stopped, since it takes memory. Absent: no limit is told. */
  readonly measurePeak?: () => Promise<MachinePeak>
  /** Fresh samples, asked for several times a second while a GPU's engine is recorded. */
  readonly readGpus?: () => readonly GpuSample[]
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (stage: 'start' | 'warm up' | 'record' | 'nodes', done: number, of: number) => void
}

export interface Profiled {
  readonly profile: EngineProfile
  /** What a trace is drawn from. */
  readonly records: ProfileRecords
  /** Why the engines before the chosen one did not start. */
  readonly notes: readonly string[]
}

/** Starts the engine that `config` names, profiles it, and stops it.
 * @throws {EmbedError} as startPipeline; WORKLOAD_INVALID, REQUEST_CANCELLED; of a GPU LIBRARY_NOT_FOUND, CUPTI_VERSION,
 * PROFILER_BUSY, PROFILING_NOT_PERMITTED */
export async function profileEngine(config: PipelineConfig, options: ProfileOptions): Promise<Profiled> {
  const { clients = 1 } = options
  const { engine, spec, workload, recording, activity, gpuLoads, notes } = await recordEngine(config, options)
  const { precision } = engine
  const host = summariseHost(recording)
  const gpu = activity === undefined ? undefined : summariseRecorded(activity, recording)
  const products =
    gpu === undefined ? undefined : await rateWork(gpu, { shape: spec, precision, ...recording }, options)
  const pinned = { ...config, engine: engine.name, precision } as PipelineConfig
  const nodes = isOnGpu(engine) ? undefined : await profileNodes(pinned, workload, recording, options)
  return {
    profile: {
      engine,
      model: spec.id,
      workload: workload.name,
      clients,
      host,
      ...(gpu === undefined ? {} : { gpu }),
      ...(gpuLoads.length === 0 ? {} : { gpuLoads }),
      ...(products === undefined ? {} : { products }),
      ...(nodes === undefined ? {} : { nodes }),
      ...assessProfile({ precision, clients, host, gpu, nodes }),
    },
    records: { gpu: activity, spans: recording.spans },
    notes,
  }
}

/** A peak that cannot be measured, for want of cuBLASLt or of memory, leaves the limit out. */
async function rateWork(
  gpu: GpuProfile,
  run: Parameters<typeof rateModelProducts>[1],
  { measurePeak }: ProfileOptions,
): Promise<ProductRate | undefined> {
  return rateModelProducts(gpu.classes, run, await measurePeak?.().catch(() => undefined))
}

/** Its kernels are what there is to record. */
export function isOnGpu({ name }: Pick<EngineInfo, 'name'>): boolean {
  return name === 'tensorrt' || name === 'cuda'
}

async function recordEngine(config: PipelineConfig, options: ProfileOptions) {
  options.onProgress?.('start', 0, 1)
  const cupti =
    config.engine === 'onnx' || config.engine === 'openvino' ? undefined : await options.findCupti?.()
  // Before the engine: what a profiler meets half-way it may not know.
  await using recorder =
    cupti?.found === undefined ? undefined : new ActivityRecorder({ cuptiPath: cupti.found.path })
  const { pipeline, startup } = await startPipeline(config, options.start)
  await using owned = pipeline
  const { name, runtimeVersion, precision, device } = owned.engine.info
  const engine = { name, runtimeVersion, precision, device }
  if (isOnGpu(engine) && cupti !== undefined && cupti.found === undefined) {
    const { title: library, searched, fix } = cupti
    throw new EmbedError('LIBRARY_NOT_FOUND', { library, searched, fix })
  }
  const workload = await options.makeWorkload(createTokenCounter(owned.tokenizer, owned.spec.maxTokens))
  await warmUp(owned, workload, options)
  const { readGpus } = options
  using loads = isOnGpu(engine) && readGpus !== undefined ? new GpuLoadRecorder(readGpus) : undefined
  let gpuLoads: readonly GpuLoad[] = []
  const { recording, activity } = await recordWork({
    isOurs: ({ source }) => source === owned,
    recorder: isOnGpu(engine) ? recorder : undefined,
    apiCalls: options.apiCalls,
    run: async () => {
      await runRequests(owned, workload, options.iterations, options, 'record')
      gpuLoads = loads?.stop() ?? []
    },
  })
  return { engine, spec: owned.spec, workload, recording, activity, gpuLoads, notes: startup.notes }
}

/** The same requests one after the other on an engine that measures its nodes. */
async function profileNodes(
  config: PipelineConfig,
  workload: Workload,
  unprofiled: HostRecording,
  options: ProfileOptions,
): Promise<NodeProfile | undefined> {
  const { pipeline } = await startPipeline(config, { ...options.start, profileNodes: true })
  await using owned = pipeline
  const profiler = owned.engine.nodeProfiler
  if (profiler === undefined) return undefined
  const alone = { ...options, clients: 1 }
  await warmUp(owned, workload, alone)
  profiler.start()
  using recorder = new HostRecorder(({ source }) => source === owned)
  await runRequests(owned, workload, options.iterations, alone, 'nodes')
  const recording = recorder.stop()
  const times = await profiler.stop()
  const nodesMs = times.reduce((sum, { durationNs }) => sum + durationNs, 0) / 1e6
  return {
    ...summariseNodes(times),
    measuredRatio: nodesMs / engineMs(recording),
    overheadRatio: busyNsPerToken(recording) / busyNsPerToken(unprofiled),
  }
}

function engineMs({ spans }: HostRecording): number {
  return spans.reduce((sum, { track, durationMs }) => (track === 'batches' ? sum + durationMs : sum), 0)
}

/** Batches may run beside each other: time in which some batch ran. */
function busyNsPerToken(recording: HostRecording): number {
  return summariseHost(recording).engineBusy.busyNs / recording.tokens
}

async function warmUp(
  pipeline: EmbeddingPipeline,
  workload: Workload,
  options: ProfileOptions,
): Promise<void> {
  await runRequests(pipeline, workload, Math.max(3, Math.ceil(options.iterations / 10)), options, 'warm up')
}

async function runRequests(
  pipeline: EmbeddingPipeline,
  { requests }: Workload,
  count: number,
  { clients = 1, signal, onProgress }: ProfileOptions,
  stage: 'warm up' | 'record' | 'nodes',
): Promise<void> {
  let next = 0
  let done = 0
  const client = async (): Promise<void> => {
    while (next < count) {
      const { texts } = requests[next++ % requests.length]!
      await pipeline.embed({ inputs: texts, truncation: 'right', signal }).catch((error: unknown) => {
        next = count // one failure ends the run
        throw error
      })
      onProgress?.(stage, ++done, count)
    }
  }
  await Promise.all(Array.from({ length: Math.min(clients, count) }, client))
}
