/** One place where a rectangle runs: pinned inputs -> GPU -> pinned output. Lanes share the streams, so that the copies of
 * one run beside the kernels of another. */
import { toReason } from '../../errors.ts'
import type { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { GpuContext } from '../../hardware/gpu/context.ts'
import { captureGraph, type GpuGraph } from '../../hardware/gpu/graph.ts'
import { StagingBuffer } from '../../hardware/gpu/staging-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { BatchStages, StageTimes, StreamPool } from '../../hardware/gpu/stream-pool.ts'
import type { PackedBatch } from '../engine.ts'
import {
  type CellBuffer,
  type Rectangle,
  type RectangleInputs,
  writeRectangle,
} from '../rectangular/padding.ts'
import type { RectangleRunner } from '../rectangular/rectangular-engine.ts'
import type { EmbeddingTable } from './embedding-table.ts'
import type { GraphShapes } from './graph-shapes.ts'
import type { LoadedPlan, PlanInput } from './loaded-plan.ts'
import type { EngineShape, ProfileShapes } from './profile-shapes.ts'
import { ShapedContext } from './shaped-context.ts'

/** What all lanes of an engine share. */
export interface LaneParts {
  readonly gpu: GpuContext
  readonly streams: StreamPool
  readonly plans: readonly LoadedPlan[]
  readonly shapes: ProfileShapes
  readonly graphShapes: GraphShapes
  /** Memory between the layers: the compute stream runs one batch at a time, so one piece is enough. */
  readonly scratch: DeviceBuffer
  readonly padTokenId: number
  /** For plans that take rows of the vocabulary instead of ids. */
  readonly table?: EmbeddingTable | undefined
  readonly counts: LaneCounts
  readonly onNote: (note: string) => void
  readonly onStageTimes?: ((times: StageTimes) => void) | undefined
}

export interface LaneCounts {
  graphLaunches: number
  plainEnqueues: number
  recordings: number
  /** How long the event loop stood still for the last one: its context is made then. */
  lastRecordingMs: number
}

interface Input extends PlanInput {
  readonly staging: StagingBuffer
}

interface Recording {
  readonly context: ShapedContext
  readonly graph: GpuGraph
}

export class ExecutionLane implements RectangleRunner {
  readonly #parts: LaneParts
  readonly #inputs: readonly Input[] = []
  readonly #output: StagingBuffer
  /** Views of the pinned inputs. */
  readonly #cells: RectangleInputs
  readonly #stages: BatchStages
  /** Of each profile, for shapes without a graph: to change the profile of a context takes as long as to make one. */
  readonly #contexts = new Map<number, ShapedContext>()
  readonly #recordings = new Map<number, Recording>()
  #generation: number
  /** Of the batch that is being enqueued. */
  #shape!: EngineShape

  /** What it owns belongs to the GPU and to TensorRT's runtime, and is freed with them. @throws {EmbedError} GPU_OUT_OF_MEMORY */
  constructor(parts: LaneParts) {
    const { gpu, shapes, plans } = parts
    const [{ inputs, output }] = plans as readonly [LoadedPlan]
    this.#parts = parts
    this.#generation = parts.graphShapes.generation
    this.#inputs = inputs.map((input) => {
      const staging = new StagingBuffer(gpu, input.name, shapes.maxCells * input.cellBytes)
      // Halves of int64 that stay 0, token types, and rows of padding, which must be finite.
      staging.host.uint8().fill(0)
      return { ...input, staging }
    })
    const rows = output.kind === 'pooled' ? shapes.maxRows : shapes.maxCells
    this.#output = new StagingBuffer(gpu, output.name, rows * output.dimensions * 4)
    this.#cells = {
      inputIds: this.#viewCells('inputIds'),
      attentionMask: this.#viewCells('attentionMask'),
      positionIds: this.#viewCells('positionIds'),
    }
    this.#stages = {
      h2d: (stream) => {
        const { rows: shapeRows, tokens } = this.#shape
        for (const { staging, cellBytes } of this.#inputs)
          staging.upload(stream, shapeRows * tokens * cellBytes)
      },
      compute: (stream) => this.#enqueue(stream),
      d2h: (stream) => this.#output.download(stream, this.#outputValues * 4),
    }
  }

  /** @throws {EmbedError} TENSORRT_FAILED, CUDA_STATUS */
  async run(batch: PackedBatch, rectangle: Rectangle, read: (output: Float32Array) => void): Promise<void> {
    const { shapes, streams, onStageTimes } = this.#parts
    this.#shape = shapes.fit(rectangle.sequences.length, rectangle.paddedLength)!
    this.#write(batch, rectangle)
    const times = await streams.runBatch(this.#stages)
    onStageTimes?.(times)
    read(this.#output.host.float32(this.#outputValues))
  }

  /** Makes the context of a profile ready by a run whose result nobody reads, so that no batch has to wait for it.
   * @throws {EmbedError} TENSORRT_FAILED, CUDA_STATUS */
  async prepare(shape: EngineShape): Promise<void> {
    await this.#parts.streams.runBatch({ compute: (stream) => this.#runPlain(shape, stream) })
  }

  get bytes(): number {
    // Pinned and on the GPU.
    const copies = this.#parts.gpu.device.isIntegrated ? 1 : 2
    return [...this.#inputs.map(({ staging }) => staging), this.#output].reduce(
      (sum, staging) => sum + staging.bytes * copies,
      0,
    )
  }

  get #outputValues(): number {
    const { rows, tokens, plan } = this.#shape
    const { kind, dimensions } = this.#parts.plans[plan]!.output
    return rows * (kind === 'pooled' ? 1 : tokens) * dimensions
  }

  #write(batch: PackedBatch, rectangle: Rectangle): void {
    const { padTokenId, table } = this.#parts
    writeRectangle(batch, rectangle, padTokenId, this.#cells)
    const rows = this.#inputs.find(({ role }) => role === 'embeddings')
    if (rows !== undefined) table!.gather(batch, rectangle, rows.staging.host.uint8())
    this.#fillRows(rectangle)
  }

  /** Rows that only the profile wants: one token, so that no row is without any. */
  #fillRows({ sequences, paddedLength }: Rectangle): void {
    const { inputIds, attentionMask } = this.#cells
    for (let row = sequences.length; row < this.#shape.rows; row++) {
      const from = row * paddedLength
      if (inputIds !== undefined) fillCells(inputIds, from, paddedLength, this.#parts.padTokenId)
      if (attentionMask === undefined) continue
      fillCells(attentionMask, from, paddedLength, 0)
      fillCells(attentionMask, from, 1, 1)
    }
  }

  #enqueue(stream: GpuStream): void {
    const { graphShapes, counts } = this.#parts
    this.#dropRecordings()
    const shape = this.#shape
    const wantsGraph = graphShapes.use(shape)
    const recording = this.#recordings.get(shape.key)
    if (recording !== undefined) {
      recording.graph.launch(stream)
      counts.graphLaunches++
      return
    }
    counts.plainEnqueues++
    const startMs = performance.now()
    this.#runPlain(shape, stream)
    if (!wantsGraph) return
    this.#record(shape, stream)
    counts.lastRecordingMs = performance.now() - startMs
  }

  #runPlain(shape: EngineShape, stream: GpuStream): void {
    const context = this.#contextOf(shape)
    context.takeShape(shape, stream)
    context.enqueue(stream)
  }

  /** The context that has just run the shape goes with the graph: TensorRT wants a run before the recording, and the shape
   * must stay as it is from now on. */
  #record(shape: EngineShape, stream: GpuStream): void {
    const { graphShapes, counts, onNote } = this.#parts
    const context = this.#contextOf(shape)
    try {
      const graph = captureGraph(stream, () => context.enqueue(stream))
      this.#recordings.set(shape.key, { context, graph })
      this.#contexts.delete(toProfileKey(shape))
      counts.recordings++
    } catch (error) {
      graphShapes.turnOff()
      onNote(`tensorrt: no CUDA graphs, since a run cannot be recorded: ${toReason(error)}`)
    }
  }

  #contextOf(shape: EngineShape): ShapedContext {
    const key = toProfileKey(shape)
    const known = this.#contexts.get(key)
    if (known !== undefined) return known
    const { plans, scratch } = this.#parts
    const loaded = plans[shape.plan]!
    const output = { name: loaded.output.name, staging: this.#output }
    const context = new ShapedContext(loaded, scratch, [...this.#inputs, output])
    this.#contexts.set(key, context)
    return context
  }

  /** Those whose shapes are no longer to have one. Nothing of this lane is under way. */
  #dropRecordings(): void {
    const { graphShapes } = this.#parts
    if (this.#generation === graphShapes.generation) return
    this.#generation = graphShapes.generation
    for (const [key, { context, graph }] of this.#recordings) {
      if (graphShapes.has({ key })) continue
      this.#recordings.delete(key)
      graph[Symbol.dispose]()
      context[Symbol.dispose]()
    }
  }

  #viewCells(role: PlanInput['role']): CellBuffer | undefined {
    const input = this.#inputs.find((each) => each.role === role)
    if (input === undefined) return undefined
    return { values: input.staging.host.int32(), stride: input.cellBytes === 8 ? 2 : 1 }
  }
}

function fillCells({ values, stride }: CellBuffer, from: number, count: number, value: number): void {
  for (let i = from; i < from + count; i++) values[i * stride] = value
}

function toProfileKey({ plan, profile }: EngineShape): number {
  return plan * 64 + profile
}
