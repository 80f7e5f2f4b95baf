/** The memories of the fake GPU machine, with real bytes in them. */
import type { DevicePointer } from '../../src/hardware/ffi/cuda.ts'
import { addressOf, type Pointer } from '../../src/hardware/ffi/library.ts'

interface Allocation {
  readonly base: bigint
  readonly bytes: Uint8Array
}

export class FakeMemory {
  readonly device = new Map<bigint, Allocation>()
  /** At their real addresses, so that views of them work. */
  readonly host = new Map<bigint, Allocation & { readonly isMapped: boolean }>()
  readonly totalBytes: number
  #nextAddress = 0x7f_0000_0000n

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes
  }

  get freeBytes(): number {
    const used = [...this.device.values()].reduce((sum, { bytes }) => sum + bytes.length, 0)
    return this.totalBytes - used
  }

  allocateDevice(bytes: number): DevicePointer | undefined {
    if (bytes > this.freeBytes) return undefined
    const base = this.#nextAddress
    // A gap, so that running over the end is noticed.
    this.#nextAddress += BigInt(Math.ceil(bytes / 512) * 512 + 512)
    this.device.set(base, { base, bytes: new Uint8Array(bytes).fill(0xcd) })
    return base as DevicePointer
  }

  allocateHost(bytes: number, isMapped: boolean): Pointer {
    const memory = new ArrayBuffer(bytes)
    const base = addressOf(memory)
    this.host.set(base, { base, bytes: new Uint8Array(memory), isMapped })
    return base
  }

  /** Overwrites what is about to be freed, so that a later look at it is noticed. */
  spoil(base: bigint): void {
    for (const map of [this.device, this.host]) map.get(base)?.bytes.fill(0xdd)
  }

  /** @returns undefined unless all of it is allocated; kernels see host memory that is mapped. */
  find(pointer: bigint, bytes: number, side: 'device' | 'host'): Uint8Array | undefined {
    const host = [...this.host.values()]
    const places: Allocation[] =
      side === 'host' ? host : [...this.device.values(), ...host.filter(({ isMapped }) => isMapped)]
    const place = places.find(
      ({ base, bytes: all }) => pointer >= base && pointer + BigInt(bytes) <= base + BigInt(all.length),
    )
    if (place === undefined) return undefined
    const from = Number(pointer - place.base)
    return place.bytes.subarray(from, from + bytes)
  }
}
