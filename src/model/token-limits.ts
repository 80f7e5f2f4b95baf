import { join } from 'node:path'
import { Type } from 'typebox'
import { EmbedError } from '../errors.ts'
import type { HfConfig } from './hf-config.ts'
import { readJsonFile } from './json-file.ts'
import type { GraphFamily } from './spec.ts'

const tokenizerConfigSchema = Type.Object({
  model_max_length: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  // A string, or an added token written out.
  pad_token: Type.Optional(Type.Union([Type.String(), Type.Object({ content: Type.String() }), Type.Null()])),
})
const sentenceConfigSchema = Type.Object({
  max_seq_length: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.Null()])),
})
const tokenizerSchema = Type.Object({
  added_tokens: Type.Optional(Type.Array(Type.Object({ id: Type.Integer(), content: Type.String() }))),
})

/** The names that sentence-transformers has given its file. */
const sentenceConfigFiles = [
  'bert',
  'roberta',
  'distilbert',
  'camembert',
  'albert',
  'xlm-roberta',
  'xlnet',
].map((name) => `sentence_${name}_config.json`)

/** transformers writes 1e30 for "no limit". */
const saneMaxTokens = 1 << 20
/** Where nothing states a limit, as with T5's relative positions. */
const unstatedMaxTokens = 512

/** The longest input and the padding token of a model, as its several files state them. */
export interface TokenLimits {
  readonly maxTokens: number
  readonly padTokenId: number
}

/** Reads tokenizer_config.json, sentence_bert_config.json and, for the padding token alone, tokenizer.json.
 * @param folder the one that holds config.json   @throws {EmbedError} MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID */
export async function readTokenLimits(
  folder: string,
  config: HfConfig,
  family: GraphFamily | undefined,
): Promise<TokenLimits> {
  const configFile = join(folder, 'config.json')
  const tokenizerConfig = await readJsonFile(join(folder, 'tokenizer_config.json'), tokenizerConfigSchema)
  const padToken = tokenizerConfig?.pad_token
  const padTokenId =
    config.padTokenId ??
    (await findTokenId(folder, typeof padToken === 'string' ? padToken : padToken?.content)) ??
    (family === 'xlm-roberta' || family === 'mpnet' ? 1 : config.eosTokenId) ??
    0
  if (padTokenId >= config.vocabularySize) {
    const reason = `pad_token_id ${padTokenId} is outside the vocabulary of ${config.vocabularySize}`
    throw new EmbedError('MODEL_CONFIG_INVALID', { file: configFile, reason })
  }
  const maxPositions = positionLimit(config, family, padTokenId)
  if (maxPositions < 1) {
    const reason = `max_position_embeddings ${config.maxPositionEmbeddings} leaves no position after pad_token_id ${padTokenId}`
    throw new EmbedError('MODEL_CONFIG_INVALID', { file: configFile, reason })
  }
  const modelMaxLength = tokenizerConfig?.model_max_length ?? Infinity
  const maxTokens = Math.min(
    maxPositions,
    (await readMaxSequenceLength(folder)) ?? Infinity,
    Number.isInteger(modelMaxLength) && modelMaxLength >= 1 && modelMaxLength <= saneMaxTokens
      ? modelMaxLength
      : Infinity,
  )
  return { padTokenId, maxTokens: maxTokens === Infinity ? unstatedMaxTokens : maxTokens }
}

/** RoBERTa and MPNet count their positions from padTokenId + 1. */
function positionLimit(config: HfConfig, family: GraphFamily | undefined, padTokenId: number): number {
  const positions = config.maxPositionEmbeddings ?? Infinity
  return family === 'xlm-roberta' || family === 'mpnet' ? positions - padTokenId - 1 : positions
}

async function readMaxSequenceLength(folder: string): Promise<number | undefined> {
  for (const name of sentenceConfigFiles) {
    const config = await readJsonFile(join(folder, name), sentenceConfigSchema)
    if (config !== undefined) return config.max_seq_length ?? undefined
  }
  return undefined
}

async function findTokenId(folder: string, token: string | undefined): Promise<number | undefined> {
  if (token === undefined) return undefined
  const tokenizer = await readJsonFile(join(folder, 'tokenizer.json'), tokenizerSchema)
  return tokenizer?.added_tokens?.find(({ content }) => content === token)?.id
}
