/** The values a kernel is launched with, kept where the driver can read them. */
import { EmbedError } from '../../errors.ts'
import { addressOf } from '../ffi/library.ts'

export const argumentTypes = ['pointer', 'i32', 'u32', 'i64', 'f32'] as const
export type ArgumentType = (typeof argumentTypes)[number]

const slotBytes = 8

/** Made once for a kernel and reused: CUDA copies the values at every launch. */
export class KernelArguments {
  /** Of the values, one a parameter, as cuLaunchKernel takes them. */
  readonly addresses: BigUint64Array
  readonly #types: readonly ArgumentType[]
  readonly #values: DataView

  /** @param types of the kernel's parameters, in order */
  constructor(types: readonly ArgumentType[]) {
    const memory = new ArrayBuffer(types.length * slotBytes)
    const base = addressOf(memory)
    this.addresses = BigUint64Array.from(types, (_, index) => base + BigInt(index * slotBytes))
    this.#types = types
    this.#values = new DataView(memory)
  }

  /** Sets the values in order. */
  set(...values: readonly (number | bigint)[]): this {
    if (values.length !== this.#types.length) {
      const reason = `${values.length} values for a kernel of ${this.#types.length} parameters`
      throw new EmbedError('INTERNAL', { reason })
    }
    for (const [index, value] of values.entries()) this.#write(index * slotBytes, this.#types[index]!, value)
    return this
  }

  #write(offset: number, type: ArgumentType, value: number | bigint): void {
    // Every machine CUDA runs on is little-endian.
    if (type === 'pointer') this.#values.setBigUint64(offset, BigInt(value), true)
    else if (type === 'i64') this.#values.setBigInt64(offset, BigInt(value), true)
    else if (type === 'i32') this.#values.setInt32(offset, Number(value), true)
    else if (type === 'u32') this.#values.setUint32(offset, Number(value), true)
    else this.#values.setFloat32(offset, Number(value), true)
  }
}
