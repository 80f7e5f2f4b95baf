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
import { makeSharedTiles, planSharedPrefix } from './shared-prefix.ts'

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
  readonly #maxRows: number
  readonly #sharePrefix: boolean

  constructor(
    gpu: GpuContext,
    options: PassLimits & {
      readonly hiddenSize: number
      readonly attentionQueries: number
      readonly wait: WaitMode | undefined
      readonly sharePrefix: boolean
    },
  ) {
    const { maxPassTokens, maxPassSequences, hiddenSize, attentionQueries } = options
    const pair = (name: string, bytes: number) => ({
      host: new PinnedBuffer(gpu, name, bytes),
      device: new DeviceBuffer(gpu, name, bytes),
    })
    // Ids and positions of each token, what a shared prefix needs, lengths, four integers a tile, each part rounded up to 16
    // bytes. With a prefix the rows of products and attention together are no more than those of a pass.
    const rows = (this.#maxRows = roundRows(maxPassTokens))
    const tiles = Math.ceil(rows / attentionQueries) + 2 * maxPassSequences
    const ofSequences = 7 * maxPassSequences + 2
    this.#integers = pair('batch', 4 * (3 * rows + 4 * tiles + ofSequences) + 10 * 16)
    this.#sharePrefix = options.sharePrefix
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
    const lengths = batch.cumulativeLengths.slice(first, end + 1).map((each) => each - begin)
    const allIds = batch.inputIds.subarray(begin, batch.cumulativeLengths[end])
    const shared =
      forward.sharesPrefix && this.#sharePrefix ? planSharedPrefix(allIds, lengths, this.#maxRows) : undefined
    const { ids, positions, cumulativeLengths } = shared ?? {
      ids: allIds,
      positions: countPositions(lengths, forward.firstPosition),
      cumulativeLengths: lengths,
    }
    const { isCausal, attentionQueries: queries, pooledToken } = forward
    const [rows, sequences] = [roundRows(ids.length), end - first]
    // As many tiles as any batch of this shape can have; a sequence may begin and end within one.
    const tileCount = Math.ceil(rows / queries) + (shared === undefined ? 1 : 2) * sequences
    const tiles =
      shared === undefined
        ? makeAttentionTiles(lengths, { isCausal, queries, tileCount })
        : makeSharedTiles(shared, { queries, tileCount })
    const pooled =
      pooledToken === undefined
        ? undefined
        : planPooled(cumulativeLengths, pooledToken, { queries, whole: lengths })

    const { host, device } = this.#integers
    let atByte = 0
    /** Beyond what there is come zeros: rows of token 0 at place 0. */
    const place = (values: Int32Array, length = values.length): DevicePointer => {
      const view = host.int32(length, atByte)
      view.set(values)
      view.fill(0, values.length)
      const pointer = (device.handle + BigInt(atByte)) as DevicePointer
      atByte += Math.ceil(view.byteLength / 16) * 16
      return pointer
    }
    const gpuBatch: GpuBatch = {
      rows,
      sequences,
      ids: place(ids, rows),
      positions: place(positions, rows),
      cumulativeLengths: place(cumulativeLengths),
      tiles: place(tiles),
      tileCount,
      shared: shared && {
        rows: shared.whole.rows,
        tokens: place(shared.whole.tokens),
        positions: place(shared.whole.positions),
        rowOfToken: place(shared.whole.rowOfToken, rows),
      },
      pooled: pooled && {
        rows: place(pooled.rows),
        tiles: place(pooled.tiles),
        cumulativeLengths: place(pooled.cumulativeLengths),
      },
      output: this.#output.device.handle,
      normalize,
    }
    stream.copy(device, host, { bytes: atByte })
    return gpuBatch
  }

  /** Waits for the pass. @returns its vectors, a view that the next pass writes over */
  async download(stream: GpuStream, count: number): Promise<Float32Array> {
    stream.copy(this.#output.host, this.#output.device, { bytes: count * 4 })
    this.#end.record(stream)
    await this.#end.done(this.#wait)
    return this.#output.host.float32(count)
  }
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
