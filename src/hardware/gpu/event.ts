/** A point in a stream's work: other streams wait for it, the host polls it, two of them give a time. */
import {
  CU_EVENT_BLOCKING_SYNC,
  CU_EVENT_DEFAULT,
  CU_EVENT_DISABLE_TIMING,
  type CudaEvent,
} from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { NativeResource } from '../native-resource.ts'
import type { GpuContext } from './context.ts'
import type { GpuStream } from './stream.ts'

/** poll: ask at every turn of the event loop, which takes a core while nothing else happens and sees the end about 16 us
 * late. thread: sleep on a thread of libuv's, which takes no core and sees it about 41 us late (H100). */
export const waitModes = ['poll', 'thread'] as const
export type WaitMode = (typeof waitModes)[number]

export class GpuEvent extends NativeResource<CudaEvent> {
  readonly #gpu: GpuContext

  /** @param options.timing takes a time stamp too, which costs the GPU a little */
  constructor(gpu: GpuContext, options: { readonly timing: boolean }) {
    const flags = (options.timing ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING) | CU_EVENT_BLOCKING_SYNC
    const cuda = gpu.makeCurrent()
    super(
      'an event',
      readOut<CudaEvent>((out) => cuda.cuEventCreate(out, flags)),
      gpu.children,
    )
    this.#gpu = gpu
  }

  /** Stands from now on for the end of what `stream` has been given so far. */
  record(stream: GpuStream): void {
    this.#gpu.makeCurrent().cuEventRecord(this.handle, stream.handle)
  }

  /** Never recorded counts as done. @throws {EmbedError} CUDA_STATUS when work before it failed */
  get isDone(): boolean {
    return this.#gpu.makeCurrent().cuEventQuery(this.handle)
  }

  /** Waits off the event loop. @throws {EmbedError} CUDA_STATUS, USED_AFTER_FREE when freed meanwhile */
  async done(wait: WaitMode = 'poll'): Promise<void> {
    if (wait === 'poll') await this.#gpu.completion.wait(() => this.isDone)
    else await this.#gpu.cuda.cuEventSynchronize.async(this.handle)
  }

  /** Both events done and with timing. Resolution about 0.5 us. */
  elapsedMsSince(earlier: GpuEvent): number {
    const cuda = this.#gpu.makeCurrent()
    return readOut<number>((out) => cuda.cuEventElapsedTime(out, earlier.handle, this.handle))
  }

  protected override free(handle: CudaEvent): void {
    this.#gpu.makeCurrent().cuEventDestroy_v2(handle)
  }
}
