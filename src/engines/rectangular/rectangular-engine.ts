/** The engine around a runtime that takes padded rectangles: cutting, waiting for a free runner, pooling, checks. */
import { EmbedError, toReason } from '../../errors.ts'
import type { Pooling } from '../../model/spec.ts'
import type { Embeddings, EmbedOptions, Engine, EngineInfo, NodeProfiler, PackedBatch } from '../engine.ts'
import {
  planRectangles,
  type Rectangle,
  type RectangleLimits,
  type RectangleShapes,
  shapesWithin,
} from './padding.ts'
import { poolRectangle } from '../pooling/pooling.ts'
import { findNonFiniteRow, normalizeRows } from '../vectors.ts'
import { RunnerSet, type Runners } from './runner-set.ts'

/** One place where a rectangle can run; one rectangle at a time. */
export interface RectangleRunner {
  /** Runs a rectangle off the event loop and hands its output to `read`, as a view that is gone afterwards:
   * f32 [rows, paddedLength, dimensions] ('tokens') or [rows, dimensions] ('pooled'). */
  run(batch: PackedBatch, rectangle: Rectangle, read: (output: Float32Array) => void): Promise<void>
  /** Asks the running rectangle to end early; `run` then rejects, or ends as usual. Absent: it always runs to its end. */
  cancel?(): void
}

export interface RectangularEngineOptions {
  readonly info: EngineInfo
  readonly pooling: Pooling
  readonly outputKind: 'tokens' | 'pooled'
  /** What a shared runner takes, and what one takes that has the whole engine. */
  readonly shapes: { readonly shared: RectangleShapes; readonly exclusive: RectangleShapes }
  readonly runners: Runners
  readonly nodeProfiler?: NodeProfiler | undefined
  /** The failure says that memory ran out. */
  readonly isOutOfMemory: (reason: string) => boolean
  /** Frees the runtime; called once, when nothing runs any more. */
  readonly dispose: () => void
}

/** @throws {EmbedError} from embed(): ENGINE_FAILED, ENGINE_OUT_OF_MEMORY, OUTPUT_NOT_SUPPORTED, REQUEST_CANCELLED */
export function createRectangularEngine(options: RectangularEngineOptions): Engine {
  const { info, pooling, outputKind, shapes } = options
  const runners = new RunnerSet(options.runners)
  const running = new Set<Promise<unknown>>()
  let disposal: Promise<void> | undefined

  const runAll = async (
    batch: PackedBatch,
    { signal, exclusive = false }: EmbedOptions,
    read: (output: Float32Array, rectangle: Rectangle) => void,
  ): Promise<bigint> => {
    const { runner, isExclusive, release } = await runners.acquire(exclusive)
    const cancel = () => runner.cancel?.()
    try {
      signal?.addEventListener('abort', cancel)
      const startNs = process.hrtime.bigint()
      const rectangles = planRectangles(
        batch.cumulativeLengths,
        isExclusive ? shapes.exclusive : shapes.shared,
      )
      for (const rectangle of rectangles) {
        throwIfAborted(signal)
        await runner.run(batch, rectangle, (output) => read(output, rectangle))
      }
      return process.hrtime.bigint() - startNs
    } catch (error) {
      throwIfAborted(signal)
      throw toEngineError(error, batch)
    } finally {
      signal?.removeEventListener('abort', cancel)
      release()
    }
  }

  const toEngineError = (cause: unknown, { inputIds, cumulativeLengths }: PackedBatch): EmbedError => {
    const reason = toReason(cause)
    if (!options.isOutOfMemory(reason)) {
      return new EmbedError('ENGINE_FAILED', { engine: info.name, reason }, { cause })
    }
    const sequences = cumulativeLengths.length - 1
    const tokens = inputIds.length
    return new EmbedError('ENGINE_OUT_OF_MEMORY', { engine: info.name, sequences, tokens, reason }, { cause })
  }

  const embed = async (
    batch: PackedBatch,
    { output = 'pooled', ...rest }: EmbedOptions,
  ): Promise<Embeddings> => {
    throwIfAborted(rest.signal)
    if (!info.outputs.includes(output)) {
      throw new EmbedError('OUTPUT_NOT_SUPPORTED', { engine: info.name, output })
    }
    assertBatch(batch, info)
    const { dimensions } = info
    const rows = output === 'tokens' ? batch.inputIds.length : batch.cumulativeLengths.length - 1
    const normalize = rest.normalize ?? output === 'pooled'
    const values = new Float32Array(rows * dimensions)
    const inferenceNs = await runAll(batch, rest, (hidden, rectangle) => {
      if (output === 'tokens') copyTokens(hidden, rectangle, batch.cumulativeLengths, dimensions, values)
      else if (outputKind === 'pooled') copyRows(hidden, rectangle, dimensions, values)
      else poolRectangle(pooling, hidden, rectangle, batch.cumulativeLengths, dimensions, values)
    })
    const nonFiniteSequences =
      findNonFiniteRow(values, dimensions) === -1
        ? []
        : listNonFiniteSequences(
            values,
            dimensions,
            output === 'tokens' ? batch.cumulativeLengths : undefined,
          )
    if (normalize) normalizeRows(values, rows, dimensions)
    return { values, rows, dimensions, normalized: normalize, nonFiniteSequences, inferenceNs }
  }

  return {
    info,
    nodeProfiler: options.nodeProfiler,
    embed: async (batch, embedOptions = {}) => {
      if (disposal !== undefined) {
        throw new EmbedError('ENGINE_FAILED', { engine: info.name, reason: 'it was disposed' })
      }
      const run = embed(batch, embedOptions)
      const settled = run.catch(() => undefined)
      running.add(settled)
      try {
        return await run
      } finally {
        running.delete(settled)
      }
    },
    [Symbol.asyncDispose]: () => {
      disposal ??= Promise.all(running).then(() => options.dispose())
      return disposal
    },
  }
}

/** A runner with a share of the threads takes a share of the cells. */
export function shareShapes(
  limits: RectangleLimits,
  runnerCount: number,
): RectangularEngineOptions['shapes'] {
  const maxCells = Math.max(1, Math.floor(limits.maxCells / runnerCount))
  return { shared: shapesWithin({ ...limits, maxCells }), exclusive: shapesWithin(limits) }
}

/** 'CPU, 4 threads, 2 streams' */
export function describeCpuDevice(threads: number, streams: number): string {
  return ['CPU', count(threads, 'thread'), ...(streams === 1 ? [] : [count(streams, 'stream')])].join(', ')
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
}

function assertBatch({ inputIds, cumulativeLengths }: PackedBatch, info: EngineInfo): void {
  const fail = (reason: string) => new EmbedError('ENGINE_FAILED', { engine: info.name, reason })
  if (cumulativeLengths.length < 2 || cumulativeLengths[0] !== 0) throw fail('the batch holds no sequence')
  if (cumulativeLengths.at(-1) !== inputIds.length) {
    throw fail(
      `the batch has ${inputIds.length} token ids but its lengths add up to ${cumulativeLengths.at(-1)}`,
    )
  }
  for (let i = 1; i < cumulativeLengths.length; i++) {
    const length = cumulativeLengths[i]! - cumulativeLengths[i - 1]!
    if (length < 1) throw fail(`sequence ${i - 1} has ${length} tokens`)
    if (length > info.maxTokens) {
      throw fail(`sequence ${i - 1} has ${length} tokens, the model takes ${info.maxTokens}`)
    }
  }
}

function copyTokens(
  hidden: Float32Array,
  { sequences, paddedLength }: Rectangle,
  cumulativeLengths: Int32Array,
  dimensions: number,
  out: Float32Array,
): void {
  sequences.forEach((sequence, row) => {
    const start = cumulativeLengths[sequence]!
    const length = cumulativeLengths[sequence + 1]! - start
    const from = row * paddedLength * dimensions
    out.set(hidden.subarray(from, from + length * dimensions), start * dimensions)
  })
}

function copyRows(
  pooled: Float32Array,
  { sequences }: Rectangle,
  dimensions: number,
  out: Float32Array,
): void {
  sequences.forEach((sequence, row) => {
    out.set(pooled.subarray(row * dimensions, (row + 1) * dimensions), sequence * dimensions)
  })
}

/** @param cumulativeLengths rows of each sequence; absent: one row each */
function listNonFiniteSequences(
  values: Float32Array,
  dimensions: number,
  cumulativeLengths: Int32Array | undefined,
): number[] {
  const sequences =
    cumulativeLengths === undefined ? values.length / dimensions : cumulativeLengths.length - 1
  const rowOf = (sequence: number): number => cumulativeLengths?.[sequence] ?? sequence
  return Array.from({ length: sequences }, (_, sequence) => sequence).filter((sequence) => {
    const rows = values.subarray(rowOf(sequence) * dimensions, rowOf(sequence + 1) * dimensions)
    return findNonFiniteRow(rows, dimensions) !== -1
  })
}
