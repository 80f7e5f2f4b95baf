/** Whether the native engine can run the model here. */
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import { type CudaPrecision, cudaPrecisions } from '../../engines/cuda/precisions.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { hasNvidiaDevice } from '../../hardware/machine/gpu.ts'
import { findNativeLibraries, type NativeLibraries } from '../../hardware/machine/native-libraries.ts'
import { type ActivationScales, loadActivationScales, scalesPath } from '../../model/activation-scales.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { StartOptions } from './start-pipeline.ts'

export interface NativeEngine {
  readonly libraries: NativeLibraries
  readonly precision: CudaPrecision
  /** At fp8 only. */
  readonly scales: ActivationScales | undefined
}

/** Undefined, with a note where that may surprise, when it cannot and was not asked for by name.
 * @throws {EmbedError} when it was: LIBRARY_NOT_FOUND, GPU_UNAVAILABLE, ENGINE_UNAVAILABLE, SCALES_INVALID */
export async function locateNativeEngine(
  spec: ModelSpec,
  config: PipelineConfig,
  { cacheDir, cudaSearch }: StartOptions,
  notes: string[],
): Promise<NativeEngine | undefined> {
  if (config.engine !== 'cuda' && (config.engine !== 'auto' || !hasNvidiaDevice())) return undefined
  try {
    const precision = choosePrecision(config.precision)
    const libraries = await findNativeLibraries(cudaSearch ?? {})
    const scales =
      precision === 'fp8'
        ? await loadActivationScales(config.scales ?? scalesPath(cacheDir, spec), spec.contentHash)
        : undefined
    return { libraries, precision, scales }
  } catch (error) {
    if (config.engine === 'cuda') throw error
    notes.push(`cuda: ${toReason(error)}`)
    return undefined
  }
}

/** bf16 by itself: it needs no scales, and what FP8 saves has to be weighed against its vectors. */
function choosePrecision(wanted: PipelineConfig['precision']): CudaPrecision {
  if (wanted === 'auto') return 'bf16'
  const precision = cudaPrecisions.find((known) => known === wanted)
  if (precision !== undefined) return precision
  const reason = `it computes at ${cudaPrecisions.join(', ')}, not at ${wanted}`
  const fix = 'name one of these with --precision, or another engine'
  throw new EmbedError('ENGINE_UNAVAILABLE', { engine: 'cuda', reason, fix })
}
