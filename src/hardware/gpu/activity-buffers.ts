/** The memory that CUPTI writes records into: lent when it asks, within a bound, and kept when it comes back. */
import { bufferCompletedPrototype, bufferRequestedPrototype } from '../ffi/cupti.ts'
import { addressOf, declareCallback, type Pointer, viewMemory } from '../ffi/library.ts'

export interface FilledBuffer {
  readonly buffer: ArrayBuffer
  readonly validBytes: number
}

/** A thread that launches work fills buffers of its own: small ones leave room for many threads. */
const bufferBytes = 4 << 20

export class ActivityBuffers {
  readonly #onFull: () => void
  readonly #lent = new Map<bigint, { readonly buffer: ArrayBuffer; readonly round: number }>()
  #filled: FilledBuffer[] = []
  #freeBytes = 0
  #round = 0

  /** @param onFull nothing is left to lend; called on CUPTI's behalf, so it must not wait and not throw */
  constructor(onFull: () => void) {
    this.#onFull = onFull
  }

  /** Lends up to `maxBytes` from now on; what is still lent of before is not taken back. */
  open(maxBytes: number): void {
    this.#round++
    this.#filled = []
    this.#freeBytes = maxBytes
  }

  /** Lends nothing more. @returns what came back since `open` */
  close(): FilledBuffer[] {
    this.#freeBytes = 0
    return this.#filled.splice(0)
  }

  /** For cuptiActivityRegisterCallbacks. C function pointers live as long as the process: there is one pair, and it serves
   * the buffers that asked last. */
  callbacks(): { readonly requested: Pointer; readonly completed: Pointer } {
    serve = {
      lend: (buffer, bytes, maxRecords) => this.#lend(buffer, bytes, maxRecords),
      takeBack: (buffer, validBytes) => this.#takeBack(buffer, validBytes),
    }
    callbacks ??= {
      requested: declareCallback(
        bufferRequestedPrototype,
        (buffer: Pointer, bytes: Pointer, maxRecords: Pointer) => serve.lend(buffer, bytes, maxRecords),
      ),
      completed: declareCallback(
        bufferCompletedPrototype,
        (_context: Pointer, _stream: number, buffer: Pointer, _bytes: number, validBytes: number) =>
          serve.takeBack(buffer, validBytes),
      ),
    }
    return callbacks
  }

  /** Writes what CUPTI asks for: a buffer of zeros, or null. */
  #lend(to: Pointer, bytesTo: Pointer, maxRecordsTo: Pointer): void {
    const buffer = this.#freeBytes >= bufferBytes ? new ArrayBuffer(bufferBytes) : undefined
    const address = buffer === undefined ? 0n : addressOf(buffer)
    if (buffer !== undefined) {
      this.#freeBytes -= bufferBytes
      this.#lent.set(address, { buffer, round: this.#round })
    }
    writeWord(to, address)
    writeWord(bytesTo, BigInt(buffer?.byteLength ?? 0))
    writeWord(maxRecordsTo, 0n) // as many as fit
    if (buffer === undefined) this.#onFull()
  }

  #takeBack(address: Pointer, validBytes: number): void {
    const lent = this.#lent.get(address)
    this.#lent.delete(address)
    if (lent?.round === this.#round) this.#filled.push({ buffer: lent.buffer, validBytes })
  }
}

let callbacks: { readonly requested: Pointer; readonly completed: Pointer } | undefined
let serve: {
  lend(to: Pointer, bytesTo: Pointer, maxRecordsTo: Pointer): void
  takeBack(address: Pointer, validBytes: number): void
}

function writeWord(to: Pointer, value: bigint): void {
  new BigUint64Array(viewMemory(to, 8))[0] = value
}
