/** Turns CUDA's bare "out of memory" into an error that says how much was needed and how much there is. */
import { CUDA_ERROR_OUT_OF_MEMORY } from '../ffi/cuda.ts'
import { type Out, readOut } from '../ffi/library.ts'
import { EmbedError } from '../../errors.ts'
import type { GpuContext } from './context.ts'

/** @throws {EmbedError} GPU_OUT_OF_MEMORY, CUDA_STATUS */
export function allocate<Handle>(
  gpu: GpuContext,
  request: { readonly memory: 'device' | 'pinned'; readonly resource: string; readonly bytes: number },
  call: (out: Out<Handle>) => void,
): Handle {
  const { memory, resource, bytes: neededBytes } = request
  try {
    return readOut<Handle>(call)
  } catch (cause) {
    if (!isOutOfMemory(cause)) throw cause
    const details = { memory, resource, neededBytes, ...gpu.readMemory() }
    throw new EmbedError('GPU_OUT_OF_MEMORY', details, { cause })
  }
}

function isOutOfMemory(error: unknown): boolean {
  return (
    error instanceof EmbedError &&
    error.code === 'CUDA_STATUS' &&
    (error as EmbedError<'CUDA_STATUS'>).details.status === CUDA_ERROR_OUT_OF_MEMORY
  )
}
