/** Where the fields of CUPTI's records are.
 *
 * With each version the structs grow at their end, and all fields read here have kept their places. The offsets were
 * printed by scripts/cupti-offsets.c, compiled against the headers of every version below. */

export interface CuptiVersions {
  /** Of the CUDA Toolkit. */
  readonly cuda: string
  /** What cuptiGetVersion tells: counted up in CUDA 12, from 13 on 130001 for 13.0 with update 1. */
  readonly first: number
  readonly last: number
  /** The structs of a kernel, a copy and a fill. */
  readonly structs: string
}

/** Each is read by the offsets below. */
export const knownCuptiVersions: readonly CuptiVersions[] = [
  { cuda: '12.0 to 12.7', first: 18, last: 25, structs: 'Kernel9, Memcpy5, Memset4' },
  { cuda: '12.8 and 12.9', first: 26, last: 28, structs: 'Kernel9, Memcpy6, Memset4' },
  { cuda: '13.0', first: 130_000, last: 130_099, structs: 'Kernel10, Memcpy6, Memset4' },
  { cuda: '13.1 and 13.2', first: 130_100, last: 130_299, structs: 'Kernel11, Memcpy6, Memset4' },
  { cuda: '13.3', first: 130_300, last: 130_399, structs: 'Kernel12, Memcpy6, Memset4' },
  { cuda: '13.4 and 13.5', first: 130_400, last: 130_599, structs: 'Kernel13, Memcpy7, Memset5' },
]

/** In bytes; `kind` (u32) is the first field of each. */
export const recordOffsets = {
  kernel: {
    registersPerThread: 6, // u16
    start: 16, // u64, as all times: nanoseconds
    end: 24,
    deviceId: 40, // u32
    streamId: 48, // u32
    grid: 52, // i32 [3]
    block: 64, // i32 [3]
    staticSharedMemory: 76, // i32
    dynamicSharedMemory: 80, // i32
    correlationId: 92, // u32
    name: 104, // const char *
    graphNodeId: 144, // u64
    graphId: 156, // u32
  },
  memcpy: {
    sourceKind: 5, // u8
    destinationKind: 6, // u8
    bytes: 8, // u64
    start: 16,
    end: 24,
    deviceId: 32,
    streamId: 40,
    correlationId: 44,
    graphNodeId: 64,
    graphId: 72,
  },
  memset: {
    bytes: 8,
    start: 16,
    end: 24,
    deviceId: 32,
    streamId: 40,
    correlationId: 44,
    memoryKind: 50, // u16
    graphNodeId: 64,
    graphId: 72,
  },
  api: {
    callbackId: 4, // u32
    start: 8,
    end: 16,
    threadId: 28, // u32
    correlationId: 32,
  },
} as const
