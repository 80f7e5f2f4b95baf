import { EmbedError } from '../../errors.ts'
import type { Safetensors } from '../safetensors.ts'
import type { StoredType } from './element-types.ts'

/** A tensor of the folder, row-major as it is stored; nothing is read before it is asked for. */
export interface StoredTensor {
  readonly type: StoredType
  readonly shape: readonly number[]
  readonly file: string
  /** Bytes `begin` to `end` of the tensor; all of it by default. The caller owns them. */
  read(begin?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>
  readonly byteLength: number
  /** Fills `memory` with the tensor's bytes from `begin` on. */
  readInto(memory: Uint8Array, begin: number): Promise<void>
  readFloat32(): Promise<Float32Array>
}

/** The weights of a model by their names without the prefix that the saved class added ('bert.', 'model.'). */
export interface ModelWeights {
  /** @throws {EmbedError} MODEL_FILE_CORRUPT when it is missing or its shape is another, MODEL_CONFIG_INVALID when its
   * type is none that is read */
  get(name: string, shape: readonly number[]): StoredTensor
}

/** Every model has this one; what stands before it stands before all. */
const anchors = { encoder: 'embeddings.word_embeddings.weight', decoder: 'embed_tokens.weight' } as const

/** @param files named in errors   @throws {EmbedError} MODEL_FILE_CORRUPT when there is no word embedding */
export function findModelWeights(
  tensors: Safetensors,
  files: readonly string[],
  kind: keyof typeof anchors,
): ModelWeights {
  const anchor = anchors[kind]
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
      const { dtype: type, file } = info
      if (type !== 'F32' && type !== 'F16' && type !== 'BF16') {
        const reason = `tensor '${stored}' is ${type}; only F32, F16 and BF16 weights are read`
        throw new EmbedError('MODEL_CONFIG_INVALID', { file, reason })
      }
      return {
        type,
        shape,
        file,
        byteLength: info.byteLength,
        read: (begin, end) => tensors.readBytes(stored, begin, end),
        readInto: (memory, begin) => tensors.readInto(stored, memory, begin),
        readFloat32: () => tensors.readFloat32(stored),
      }
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
