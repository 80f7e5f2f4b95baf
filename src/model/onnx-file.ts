import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isFile } from './model-files.ts'
import { readOnnxMetadata } from './onnx/model-metadata.ts'
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
  await mkdir(dirname(path), { recursive: true })
  return { path, fromCache: await ensureExportAt(spec, path, options) }
}

/** The same at a place of the caller's, whose folder must exist.
 * @returns whether it was there already   @throws {EmbedError} as exportOnnx */
export async function ensureExportAt(
  spec: ModelSpec,
  path: string,
  options: ExportOptions = {},
): Promise<boolean> {
  const key = exportKey(spec, options)
  // A model takes its name when it and its weights are whole; only someone else can have taken the weights away since.
  const metadata = await readOnnxMetadata(path)
  const isWhole = metadata?.['data'] === undefined || (await isFile(join(dirname(path), metadata['data'])))
  if (metadata?.['key'] === key && isWhole) return true
  await exportOnnx(spec, path, { ...options, key })
  return false
}

/** Equal keys, equal bytes: the model's content, this package's graph, and every option that changes it. */
export function exportKey(spec: ModelSpec, options: ExportOptions = {}): string {
  const { precision = 'fp32', output = 'tokens', inputs = 'ids', observe, scales } = options
  const parts = [
    precision === 'fp32' ? undefined : precision,
    output === 'pooled' ? spec.pooling : undefined,
    inputs === 'embeddings' ? inputs : undefined,
    precision === 'fp8' ? hashScales(scales) : undefined,
    observe === true ? 'amax' : undefined,
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
