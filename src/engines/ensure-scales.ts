/** The activation scales of a model: measured once, kept in the cache. */
import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { freemem } from 'node:os'
import { dirname, join } from 'node:path'
import { EmbedError } from '../errors.ts'
import { type CalibratedScales, loadActivationScales, scalesPath } from '../model/activation-scales.ts'
import { writeAtomically, writeFully } from '../model/onnx/atomic-file.ts'
import { openSafetensors } from '../model/safetensors.ts'
import type { ModelSpec } from '../model/spec.ts'
import { calibrate, defaultMargin, hashSequences } from './calibration/calibrate.ts'

export interface EnsureScalesOptions {
  readonly spec: ModelSpec
  readonly cacheDir: string
  /** Token ids of the texts, special tokens included. */
  readonly sequences: readonly Int32Array[]
  readonly threads: number
  readonly margin?: number | undefined
  readonly onProgress?: ((progress: ScalesProgress) => void) | undefined
  readonly signal?: AbortSignal | undefined
  /** Memory that may be used. Default: what is free. */
  readonly freeBytes?: number
}

export type ScalesProgress =
  | { readonly phase: 'export'; readonly writtenBytes: number; readonly totalBytes: number }
  | { readonly phase: 'measure'; readonly done: number; readonly total: number }

/** Runs the model at fp32 in ONNX Runtime over the texts, unless the cache has its scales for just these.
 * @throws {EmbedError} SCALES_INVALID (too large for this machine's memory), and as exportOnnx and createOnnxObserver */
export async function ensureScales(
  options: EnsureScalesOptions,
): Promise<{ scales: CalibratedScales; path: string; fromCache: boolean }> {
  const { spec, cacheDir, sequences, threads, margin = defaultMargin, onProgress, signal } = options
  const path = scalesPath(cacheDir, spec)
  const known = await loadActivationScales(path, spec.contentHash).catch(() => undefined)
  if (
    known?.kind === 'calibrated' &&
    known.textsHash === hashSequences(sequences) &&
    known.margin === margin
  ) {
    return { scales: known, path, fromCache: true }
  }
  await assertFits(spec, options.freeBytes ?? freemem())
  const { createOnnxObserver } = await import('./onnx/onnx-observer.ts')
  await using observer = await createOnnxObserver({
    spec,
    threads,
    workFolder: join(cacheDir, 'scales', `${spec.contentHash}-${randomUUID()}.work`),
    signal,
    onProgress: (progress) => onProgress?.({ phase: 'export', ...progress }),
  })
  const scales = await calibrate(observer, {
    modelHash: spec.contentHash,
    sequences,
    margin,
    signal,
    onProgress: (progress) => onProgress?.({ phase: 'measure', ...progress }),
  })
  await writeScales(path, scales)
  return { scales, path, fromCache: false }
}

/** The weights at fp32, and once more what ONNX Runtime lays out anew of them. */
async function assertFits(spec: ModelSpec, freeBytes: number): Promise<void> {
  const neededBytes = 2 * 4 * (await countWeights(spec))
  if (neededBytes <= freeBytes) return
  const reason = `measuring them takes about ${toGigabytes(neededBytes)} GB of memory, ${toGigabytes(freeBytes)} are free; measure on a larger machine and give the file with --scales, or take --scales fixed:0.05 where the weights are synthetic`
  throw new EmbedError('SCALES_INVALID', { source: spec.id, reason })
}

function toGigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1)
}

async function countWeights(spec: ModelSpec): Promise<number> {
  await using tensors = await openSafetensors(spec.files.weights)
  return tensors
    .names()
    .map((name) => tensors.tensor(name)!.shape.reduce((product, size) => product * size, 1))
    .reduce((sum, count) => sum + count, 0)
}

async function writeScales(path: string, scales: CalibratedScales): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify(scales, null, 1)}\n`)
  await mkdir(dirname(path), { recursive: true })
  await writeAtomically([{ path, neededBytes: bytes.length, write: (file) => writeFully(file, bytes) }])
}
