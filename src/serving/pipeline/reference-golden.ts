/** Golden vectors where none are at hand: made by the most exact engine that this machine can afford. */
import { stat } from 'node:fs/promises'
import type { Engine } from '../../engines/engine.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { type Golden, makeGolden } from './golden.ts'

/** An fp32 export of weights beyond this takes minutes, and up to twice as much memory and disk: 4B models are 8 GB. */
export const maxReferenceWeightBytes: number = 2 ** 31

export interface References {
  /** fp32 on the CPU. */
  readonly createFp32: () => Promise<Engine>
  /** bf16 on the GPU; undefined when there is no plan, or it is what is to be checked. */
  readonly createBf16: (() => Promise<Engine>) | undefined
}

/** Undefined when the model is too large for fp32 here and there is no bf16 plan: nothing then proves the vectors. */
export async function makeReferenceGolden(
  spec: ModelSpec,
  tokenizer: Tokenizer,
  cacheDir: string,
  references: References,
): Promise<Golden | undefined> {
  const { createFp32, createBf16 } = references
  const create = (await canAffordFp32(spec)) ? createFp32 : createBf16
  if (create === undefined) return undefined
  await using reference = await create()
  // Awaited here: the reference is gone with this function.
  return await makeGolden(spec, reference, tokenizer, cacheDir)
}

/** Whether the model's fp32 graph may be made and run here. */
export async function canAffordFp32({ files }: Pick<ModelSpec, 'files'>): Promise<boolean> {
  const sizes = await Promise.all(files.weights.map(async (path) => (await stat(path)).size))
  return sizes.reduce((sum, size) => sum + size, 0) <= maxReferenceWeightBytes
}
