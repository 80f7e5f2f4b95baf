import { createHash } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ExportOptions, exportOnnx } from './onnx-export.ts'
import type { ModelSpec } from './spec.ts'

/** The ONNX file of the model for the CPU engines: what the folder brings, else one made once from its safetensors and
 * kept in the cache. @throws {EmbedError} as exportOnnx */
export async function ensureOnnx(spec: ModelSpec, cacheDir: string): Promise<string> {
  if (spec.files.onnx !== undefined) return spec.files.onnx
  return (await ensureExport(spec, cacheDir)).path
}

/** The export of these options, made once from the safetensors and kept in the cache, whatever ONNX file the folder
 * brings. @throws {EmbedError} as exportOnnx */
export async function ensureExport(
  spec: ModelSpec,
  cacheDir: string,
  options: ExportOptions = {},
): Promise<{ path: string; fromCache: boolean }> {
  const path = join(cacheDir, 'onnx', exportKey(spec, options), 'model.onnx')
  // The model takes its name after its weights: where it is, both are.
  const fromCache = await stat(path).then(
    () => true,
    () => false,
  )
  if (!fromCache) {
    await mkdir(dirname(path), { recursive: true })
    await exportOnnx(spec, path, options)
  }
  return { path, fromCache }
}

/** Equal keys, equal bytes: the model's content, this package's graph, and every option that changes it. */
export function exportKey(spec: ModelSpec, options: ExportOptions = {}): string {
  const { precision = 'fp32', output = 'tokens', inputs = 'ids', scales } = options
  const parts = [
    precision === 'fp32' ? undefined : precision,
    output === 'pooled' ? spec.pooling : undefined,
    inputs === 'embeddings' ? inputs : undefined,
    precision === 'fp8' ? hashScales(scales) : undefined,
  ]
  return [spec.contentHash, `v${exportVersion}`, ...parts.filter((part) => part !== undefined)].join('-')
}

function hashScales(scales: ExportOptions['scales']): string {
  return createHash('sha256')
    .update(JSON.stringify(scales ?? null))
    .digest('hex')
    .slice(0, 16)
}

/** Raised whenever the graph that exportOnnx writes changes, so that no cache serves an old one. */
const exportVersion = 3
