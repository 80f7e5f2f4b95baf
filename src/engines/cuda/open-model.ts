/** A model's folder, checked and ready to be loaded. */
import { readHfConfig } from '../../model/hf-config.ts'
import { toDecoderShape } from '../../model/onnx/decoder-shape.ts'
import { toEncoderShape } from '../../model/onnx/encoder-shape.ts'
import { findModelWeights } from '../../model/onnx/model-weights.ts'
import { openSafetensors } from '../../model/safetensors.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { EmbedError } from '../../errors.ts'
import { loadBert } from './bert.ts'
import type { ForwardContext, ForwardPass } from './forward-pass.ts'
import { decoderMemory, encoderMemory, type ModelMemory } from './memory-plan.ts'
import { loadQwen3 } from './qwen3.ts'

/** The files stay open until it is disposed. */
export interface OpenModel extends AsyncDisposable {
  readonly memory: ModelMemory
  load(context: Omit<ForwardContext, 'weights'>): Promise<ForwardPass>
}

/** @throws {EmbedError} ENGINE_UNAVAILABLE (not computed here), MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID, FILE_UNREADABLE */
export async function openModel(
  spec: ModelSpec,
  { precision }: Pick<ForwardContext, 'precision'>,
): Promise<OpenModel> {
  const { family, files, folder } = spec
  if (family === undefined || files.weights.length === 0 || spec.dimensions !== spec.hiddenSize) {
    const reason =
      family === undefined
        ? `it does not compute the architecture '${spec.architecture}'`
        : files.weights.length === 0
          ? 'the folder brings no safetensors'
          : 'it has no dense layer after the pooling'
    throw new EmbedError('ENGINE_UNAVAILABLE', { engine: 'cuda', reason, fix: 'use another engine' })
  }
  const config = await readHfConfig(folder, files.config)
  const tensors = await openSafetensors(files.weights)
  const dispose = async () => tensors[Symbol.asyncDispose]()
  try {
    if (family === 'qwen3') {
      const weights = findModelWeights(tensors, files.weights, 'decoder')
      const shape = toDecoderShape(config, files.config)
      return {
        memory: decoderMemory(shape, precision),
        load: async (context) => loadQwen3(shape, { ...context, weights }),
        [Symbol.asyncDispose]: dispose,
      }
    }
    const weights = findModelWeights(tensors, files.weights, 'encoder')
    const shape = toEncoderShape(spec, config, family)
    return {
      memory: encoderMemory(shape, precision),
      load: async (context) => loadBert(shape, { ...context, weights }),
      [Symbol.asyncDispose]: dispose,
    }
  } catch (error) {
    await dispose()
    throw error
  }
}
