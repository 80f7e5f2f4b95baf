/** A pass's inputs and outputs: pinned memory, its twin on the GPU, and what the CPU computes of a batch. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { GpuContext } from '../../hardware/gpu/context.ts'
import { GpuEvent, type WaitMode } from '../../hardware/gpu/event.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { PackedBatch } from '../engine.ts'
import type { ForwardPass, GpuBatch } from './forward-pass.ts'
import { makeAttentionTiles } from './kernels/flash-attention.ts'
import { roundRows } from './linear-layers.ts'
import { planPooled } from './pooled-rows.ts'

export interface PassLimits {
  readonly maxPassTokens: number
  readonly maxPassSequences: number
}

/** Whole sequences, in order, as many a pass as the limits take; a sequence is never longer than a pass. */
export function planPasses(
  cumulativeLengths: Int32Array,
  { maxPassTokens, maxPassSequences }: PassLimits,
): { first: number; end: number }[] {
  const passes: { first: number; end: number }[] = []
  const count = cumulativeLengths.length - 1
  for (let first = 0; first < count;) {
    let end = first + 1
    while (
      end < count &&
      end - first < maxPassSequences &&
      cumulativeLengths[end + 1]! - cumulativeLengths[first]! <= maxPassTokens
    )
      end++
    passes.push({ first, end })
    first = end
  }
  return passes
}

export class BatchBuffers {
  /** On the GPU. */
  readonly deviceBytes: number
  readonly #integers: { readonly host: PinnedBuffer; readonly device: DeviceBuffer }
  readonly #output: { readonly host: PinnedBuffer; readonly device: DeviceBuffer }
  readonly #end: GpuEvent
  readonly #wait: WaitMode | undefined

  constructor(
    gpu: GpuContext,
    options: PassLimits & {
      readonly hiddenSize: number
      readonly attentionQueries: number
      readonly wait: WaitMode | undefined
    },
  ) {
    const { maxPassTokens, maxPassSequences, hiddenSize, attentionQueries } = options
    const pair = (name: string, bytes: number) => ({
      host: new PinnedBuffer(gpu, name, bytes),
      device: new DeviceBuffer(gpu, name, bytes),
    })
    // Ids and positions of each token, lengths, four integers a tile, each part rounded up to 16 bytes.
    const rows = roundRows(maxPassTokens)
    const tiles = Math.ceil(rows / attentionQueries) + maxPassSequences
    const pooled = 6 * maxPassSequences + 1
    this.#integers = pair('batch', 4 * (2 * rows + maxPassSequences + 1 + 4 * tiles + pooled) + 7 * 16)
    this.#output = pair('vectors', maxPassSequences * hiddenSize * 4)
    this.#end = new GpuEvent(gpu, { timing: false })
    this.#wait = options.wait
    this.deviceBytes = this.#integers.device.bytes + this.#output.device.bytes
  }

  /** Fills the pinned memory and enqueues the copies. What was uploaded before must be done with. */
  upload(
    stream: GpuStream,
    batch: PackedBatch,
    pass: {
      readonly first: number
      readonly end: number
      readonly forward: ForwardPass
      readonly normalize: boolean
    },
  ): GpuBatch {
    const { first, end, forward, normalize } = pass
    const begin = batch.cumulativeLengths[first]!
    const cumulativeLengths = batch.cumulativeLengths.slice(first, end + 1).map((each) => each - begin)
    const ids = batch.inputIds.subarray(begin, batch.cumulativeLengths[end])
    const rows = roundRows(ids.length)
    // As many tiles as any batch of this shape can have.
    const { isCausal, attentionQueries: queries } = forward
    const tileCount = Math.ceil(rows / queries) + end - first
    const tiles = makeAttentionTiles(cumulativeLengths, { isCausal, queries, tileCount })
    const positions = countPositions(cumulativeLengths, forward.firstPosition)
    const { pooledToken } = forward
    const pooled = pooledToken === undefined ? undefined : planPooled(cumulativeLengths, pooledToken, queries)
    const ofPooled = pooled === undefined ? [] : [pooled.rows, pooled.tiles, pooled.cumulativeLengths]
    const parts = [padTo(rows, ids), padTo(rows, positions), cumulativeLengths, tiles, ...ofPooled]
    const { host, device } = this.#integers
    const places: DevicePointer[] = []
    let atByte = 0
    for (const part of parts) {
      host.int32(part.length, atByte).set(part)
      places.push((device.handle + BigInt(atByte)) as DevicePointer)
      atByte += Math.ceil(part.byteLength / 16) * 16
    }
    stream.copy(device, host, { bytes: atByte })
    return {
      rows,
      sequences: end - first,
      ids: places[0]!,
      positions: places[1]!,
      cumulativeLengths: places[2]!,
      tiles: places[3]!,
      tileCount,
      pooled:
        pooled === undefined
          ? undefined
          : { rows: places[4]!, tiles: places[5]!, cumulativeLengths: places[6]! },
      output: this.#output.device.handle,
      normalize,
    }
  }

  /** Waits for the pass. @returns its vectors, a view that the next pass writes over */
  async download(stream: GpuStream, count: number): Promise<Float32Array> {
    stream.copy(this.#output.host, this.#output.device, { bytes: count * 4 })
    this.#end.record(stream)
    await this.#end.done(this.#wait)
    return this.#output.host.float32(count)
  }
}

/** Rows beyond the batch read token 0 at place 0. */
function padTo(length: number, values: Int32Array): Int32Array {
  const padded = new Int32Array(length)
  padded.set(values)
  return padded
}

/** 0, 1, 2, … in each sequence, from `first` on. */
function countPositions(cumulativeLengths: Int32Array, first: number): Int32Array {
  const positions = new Int32Array(cumulativeLengths.at(-1)!)
  for (let i = 1; i < cumulativeLengths.length; i++) {
    const begin = cumulativeLengths[i - 1]!
    for (let token = begin; token < cumulativeLengths[i]!; token++) positions[token] = token - begin + first
  }
  return positions
}
