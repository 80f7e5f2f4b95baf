import { EmbedError } from '../../errors.ts'
import type { Safetensors } from '../safetensors.ts'

/** The weights of an encoder by their names without the prefix that the saved class added ('bert.', 'roberta.'). */
export interface EncoderWeights {
  /** @returns a loader of the tensor as it is stored, row-major
   * @throws {EmbedError} MODEL_FILE_CORRUPT when it is missing or its shape is another */
  get(name: string, shape: readonly number[]): () => Promise<Float32Array>
}

const anchor = 'embeddings.word_embeddings.weight'

/** @param files named in errors   @throws {EmbedError} MODEL_FILE_CORRUPT when there is no word embedding */
export function findEncoderWeights(tensors: Safetensors, files: readonly string[]): EncoderWeights {
  const prefixes = tensors
    .names()
    .filter((name) => name === anchor || name.endsWith(`.${anchor}`))
    .map((name) => name.slice(0, -anchor.length))
    .sort((a, b) => a.length - b.length)
  const [prefix] = prefixes
  if (prefix === undefined) throw corrupt(files.join(', '), `it has no tensor '${anchor}'`)
  return {
    get(name, shape) {
      const stored = [prefix + name, prefix + oldLayerNormName(name)].find((each) => tensors.tensor(each))
      const info = stored === undefined ? undefined : tensors.tensor(stored)
      if (stored === undefined || info === undefined) {
        throw corrupt(files.join(', '), `it has no tensor '${prefix}${name}'`)
      }
      if (info.shape.length !== shape.length || info.shape.some((size, axis) => size !== shape[axis])) {
        const reason = `tensor '${stored}' has the shape [${info.shape.join(', ')}], config.json asks for [${shape.join(', ')}]`
        throw corrupt(info.file, reason)
      }
      return () => tensors.readFloat32(stored)
    },
  }
}

/** Checkpoints converted from TensorFlow. */
function oldLayerNormName(name: string): string {
  return name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta')
}

function corrupt(file: string, reason: string): EmbedError {
  return new EmbedError('MODEL_FILE_CORRUPT', { file, reason })
}
