/** Which ONNX file a plan is built from: an export of the model's safetensors, or the file that the folder brings. */
import { EmbedError } from '../../errors.ts'
import { loadActivationScales, scalesPath } from '../../model/activation-scales.ts'
import { ensureExport, exportKey } from '../../model/onnx-file.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { OnnxSource } from './ensure-plans.ts'
import type { PlanSettings } from './plan.ts'

export interface OnnxSourceOptions {
  readonly cacheDir: string
  /** A file of activation scales, or 'fixed:0.05'; undefined for those in the cache. Read at fp8 only. */
  readonly scales?: string | undefined
}

/** Types stand in the ONNX file, TensorRT only obeys them: a file that a folder without safetensors brings is built as
 * it is, and gives hidden states.
 * @returns the source, and the settings that hold for it
 * @throws {EmbedError} PRECISION_UNSUPPORTED, SCALES_INVALID, FILE_UNREADABLE, MODEL_FILE_CORRUPT */
export async function toOnnxSource(
  spec: ModelSpec,
  settings: PlanSettings,
  { cacheDir, scales }: OnnxSourceOptions,
): Promise<{ readonly onnx: OnnxSource; readonly settings: PlanSettings }> {
  const { precision, inputs, output } = settings
  if (!canExport(spec)) {
    const path = spec.files.onnx
    if (path === undefined || precision !== 'fp32' || inputs !== 'ids') {
      const reason = `no graph of ${spec.id} can be exported from safetensors; its own ONNX file is built with --precision fp32 --embedding-table gpu`
      throw new EmbedError('PRECISION_UNSUPPORTED', { architecture: spec.architecture, precision, reason })
    }
    return {
      onnx: { key: `${spec.contentHash}-own`, ensure: () => Promise.resolve(path) },
      settings: { ...settings, output: 'tokens' },
    }
  }
  const options = {
    precision,
    inputs,
    output,
    scales:
      precision === 'fp8'
        ? await loadActivationScales(scales ?? scalesPath(cacheDir, spec), spec.contentHash)
        : undefined,
  }
  return {
    settings,
    onnx: {
      key: exportKey(spec, options),
      ensure: async ({ onProgress, signal }) => {
        const { path } = await ensureExport(spec, cacheDir, {
          ...options,
          signal,
          onProgress: ({ writtenBytes, totalBytes }) => onProgress?.({ ratio: writtenBytes / totalBytes }),
        })
        return path
      },
    },
  }
}

/** Whether this package makes the graph, in any precision. */
export function canExport(spec: Pick<ModelSpec, 'family' | 'files'>): boolean {
  return spec.family !== undefined && spec.files.weights.length > 0
}
