import { mkdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { exportOnnx } from './onnx-export.ts'
import type { ModelSpec } from './spec.ts'

/** The ONNX file of the model: what the folder brings, else one made once from its safetensors and kept in the cache.
 * @throws {EmbedError} ARCHITECTURE_UNSUPPORTED, MODEL_FILE_CORRUPT, NO_SPACE */
export async function ensureOnnx(spec: ModelSpec, cacheDir: string): Promise<string> {
  if (spec.files.onnx !== undefined) return spec.files.onnx
  const path = join(cacheDir, 'onnx', `${spec.contentHash}-v${exportVersion}`, 'model.onnx')
  const exists = await stat(path).then(
    () => true,
    () => false,
  )
  if (!exists) {
    await mkdir(dirname(path), { recursive: true })
    await exportOnnx(spec, path)
  }
  return path
}

/** Raised whenever the graph that exportOnnx writes changes, so that no cache serves an old one. */
const exportVersion = 1
