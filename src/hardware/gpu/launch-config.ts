/** How a kernel is launched whose blocks may start before the kernel before is done: CUDA's CUlaunchConfig with one attribute. */
import { addressOf } from '../ffi/library.ts'

/** CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION of cuda.h 12 and 13. */
const programmaticStreamSerialization = 6

/** Offsets of cuda.h's CUlaunchConfig, then its one CUlaunchAttribute: id, padding to 8 bytes, a value of 64. */
const offsets = { sharedBytes: 24, stream: 32, attributes: 40, attributeCount: 48, id: 56, value: 64 }
const configBytes = 56 + 72

export interface LaunchDimensions {
  readonly grid: readonly [x: number, y: number, z: number]
  readonly block: readonly [x: number, y: number, z: number]
  readonly sharedBytes: number
  readonly stream: bigint
}

/** Made once for a kernel and reused: the driver reads it during the call. */
export class LaunchConfig {
  readonly bytes: Uint8Array
  readonly #view: DataView

  constructor() {
    // Every machine CUDA runs on is little-endian.
    const memory = new ArrayBuffer(configBytes)
    this.bytes = new Uint8Array(memory)
    this.#view = new DataView(memory)
    const attribute = addressOf(memory) + BigInt(offsets.id)
    this.#view.setBigUint64(offsets.attributes, attribute, true)
    this.#view.setUint32(offsets.attributeCount, 1, true)
    this.#view.setUint32(offsets.id, programmaticStreamSerialization, true)
    this.#view.setInt32(offsets.value, 1, true)
  }

  set({ grid, block, sharedBytes, stream }: LaunchDimensions): this {
    for (const [i, count] of [...grid, ...block].entries()) this.#view.setUint32(4 * i, count, true)
    this.#view.setUint32(offsets.sharedBytes, sharedBytes, true)
    this.#view.setBigUint64(offsets.stream, stream, true)
    return this
  }
}
