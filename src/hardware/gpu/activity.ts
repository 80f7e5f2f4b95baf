/** What a GPU did while it was recorded: kernels, copies and fills with their times, and the calls that asked for them. */

/** Nanoseconds since the recording began. */
export interface Interval {
  readonly startNs: number
  readonly endNs: number
}

/** What kernels, copies and fills have in common. */
export interface DeviceWork extends Interval {
  readonly deviceId: number
  /** CUDA's number of the stream. */
  readonly streamId: number
  /** Equal to that of the call that asked for it; the launch of a graph gives one to all of its nodes. */
  readonly correlationId: number
  /** Where it ran as part of a CUDA graph. */
  readonly graph?: { readonly id: number; readonly nodeId: number }
}

export type Dim3 = readonly [x: number, y: number, z: number]

export interface KernelRecord extends DeviceWork {
  /** As the compiler knows it: C++ names are mangled. */
  readonly name: string
  readonly grid: Dim3
  readonly block: Dim3
  readonly registersPerThread: number
  readonly staticSharedBytes: number
  readonly dynamicSharedBytes: number
}

/** CUpti_ActivityMemoryKind */
export const memoryKinds = [
  'unknown',
  'pageable',
  'pinned',
  'device',
  'array',
  'managed',
  'device-static',
  'managed-static',
] as const
export type MemoryKind = (typeof memoryKinds)[number]

export interface MemcpyRecord extends DeviceWork {
  readonly bytes: number
  readonly source: MemoryKind
  readonly destination: MemoryKind
}

export interface MemsetRecord extends DeviceWork {
  readonly bytes: number
  readonly memory: MemoryKind
}

/** A call of the driver's or the runtime's API. */
export interface ApiRecord extends Interval {
  readonly name: string
  readonly threadId: number
  readonly correlationId: number
}

export interface GpuActivity {
  /** When the recording began, on the clock of performance.now(): places the records beside the host's spans. */
  readonly startedMs: number
  /** Shorter than was asked for where the memory for records was full. */
  readonly durationNs: number
  /** Each list in order of startNs. */
  readonly kernels: readonly KernelRecord[]
  readonly memcpys: readonly MemcpyRecord[]
  readonly memsets: readonly MemsetRecord[]
  /** Empty unless API calls were asked for: each is recorded at a cost. */
  readonly apiCalls: readonly ApiRecord[]
  /** Kernels that were not over when the recording stopped, in the order in which they were launched: after a batch that never
   * ends, the first of them is the one that hangs. Counted as dropped. */
  readonly unfinishedKernels?: readonly string[]
  /** Records for which there was no room; sums and shares miss them. */
  readonly droppedRecords: number
}
