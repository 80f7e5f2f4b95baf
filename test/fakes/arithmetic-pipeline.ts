import { loadConfig } from '../../src/config/load.ts'
import type { ConfigValues } from '../../src/config/load.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { EmbeddingPipeline } from '../../src/serving/pipeline/embedding-pipeline.ts'
import type { ServedPipeline } from '../../src/serving/pipeline/pipeline-host.ts'
import { type Clock, systemClock } from '../../src/serving/batching/clock.ts'
import type { Tokenizer } from '../../src/serving/tokenizer/tokenizer.ts'
import { ArithmeticEngine } from './arithmetic-engine.ts'

export interface ArithmeticServed extends ServedPipeline {
  readonly engine: ArithmeticEngine
}

/** A whole pipeline without a model: an id is a character, a vector is [sum, length], a batch takes `durationMs`. */
export function createArithmeticPipeline(
  options: {
    id?: string
    durationMs?: number
    clock?: Clock
    config?: ConfigValues
    tokenizer?: Tokenizer
  } = {},
): ArithmeticServed {
  const { id = 'arithmetic', durationMs = 1, clock = systemClock, tokenizer = characterTokenizer } = options
  const config = loadConfig({ flags: { model: id, port: 0, logLevel: 'silent', ...options.config } })
  const engine = new ArithmeticEngine(clock, () => durationMs)
  const pipeline = new EmbeddingPipeline(
    { spec: { ...spec, id }, tokenizer, engine },
    { ...config, concurrency: 1 },
    clock,
  )
  const golden = { source: 'made', madeBy: 'arithmetic', worstCosine: 1 } as const
  const startup = {
    version: '0.0.0',
    modelSource: 'folder',
    revision: undefined,
    golden,
    notes: [],
    durationMs: 0,
  } as const
  return { pipeline, engine, startup, config }
}

export const characterTokenizer: Tokenizer = {
  encode: async (texts) =>
    texts.map((text) => ({
      ids: Int32Array.from(text, (character) => character.codePointAt(0)!),
      totalTokens: text.length,
    })),
  inspect: () => Promise.resolve([]),
  decode: async (ids) => String.fromCodePoint(...ids),
  [Symbol.asyncDispose]: () => Promise.resolve(),
}

const spec: ModelSpec = {
  id: 'arithmetic',
  folder: '/none',
  architecture: 'none',
  family: undefined,
  hiddenSize: 2,
  layerCount: 0,
  headCount: 1,
  keyValueHeadCount: 1,
  headSize: 2,
  intermediateSize: 2,
  vocabularySize: 1000,
  maxTokens: 512,
  padTokenId: 0,
  pooling: 'mean',
  normalize: false,
  dimensions: 2,
  prompts: {},
  defaultPromptName: undefined,
  files: { config: '', tokenizer: '', weights: [], onnx: undefined },
  contentHash: 'none',
}
