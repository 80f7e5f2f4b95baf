/** Whether a model is one of those that scripts/make-qwen3.mjs writes: drawn weights, for benchmarks of models that cannot be
 * had. Its vectors mean nothing, so no quality can be read from them. */
import { readFile } from 'node:fs/promises'
import type { ModelSpec } from './spec.ts'

export async function hasSyntheticWeights({ files }: Pick<ModelSpec, 'files'>): Promise<boolean> {
  const config = JSON.parse(await readFile(files.config, 'utf8')) as { synthetic_weights_seed?: unknown }
  return config.synthetic_weights_seed !== undefined
}
