/** A Hugging Face folder read into one plain value: everything the rest of the package needs to know of a model. */
import { basename, join, resolve } from 'node:path'
import { Type } from 'typebox'
import { EmbedError } from '../errors.ts'
import { contentHash } from './content-hash.ts'
import { type HfConfig, readHfConfig } from './hf-config.ts'
import { readJsonFile } from './json-file.ts'
import { findWeightFiles, isFile } from './model-files.ts'
import { readSentenceModules, type SentenceModules } from './sentence-modules.ts'
import { readTokenLimits } from './token-limits.ts'

export const poolings = ['cls', 'mean', 'last-token'] as const
export type Pooling = (typeof poolings)[number]

/** Families whose graph this package can build itself from safetensors. */
export const graphFamilies = ['bert', 'xlm-roberta', 'mpnet', 'qwen3'] as const
export type GraphFamily = (typeof graphFamilies)[number]

/** The architectures (config.json's model_type) of each family. */
export const familyByArchitecture: Readonly<Record<string, GraphFamily>> = {
  bert: 'bert',
  roberta: 'xlm-roberta',
  'xlm-roberta': 'xlm-roberta',
  camembert: 'xlm-roberta',
  mpnet: 'mpnet',
  qwen3: 'qwen3',
}

export interface ModelSpec {
  /** What the user calls it: the hub name, else the folder's name. */
  readonly id: string
  /** Absolute path. */
  readonly folder: string
  /** config.json's model_type, e.g. 'bert'. */
  readonly architecture: string
  /** Set when this package can build the graph of the architecture. */
  readonly family: GraphFamily | undefined
  readonly hiddenSize: number
  readonly layerCount: number
  readonly headCount: number
  readonly keyValueHeadCount: number
  readonly headSize: number
  readonly intermediateSize: number
  readonly vocabularySize: number
  /** Longest input in tokens, special tokens included. */
  readonly maxTokens: number
  readonly padTokenId: number
  readonly pooling: Pooling
  /** The model's own last module is a normalisation. */
  readonly normalize: boolean
  /** Length of the vectors given when nothing else is asked. */
  readonly dimensions: number
  /** Prompts by name, put before the text. */
  readonly prompts: Readonly<Record<string, string>>
  readonly defaultPromptName: string | undefined
  /** Absolute paths. `onnx` is what the folder brings, if it brings one. */
  readonly files: {
    readonly config: string
    readonly tokenizer: string
    readonly weights: readonly string[]
    readonly onnx: string | undefined
  }
  /** SHA-256 over the weights and the configuration: the key of every cache. */
  readonly contentHash: string
}

/** Reads a model's folder. Nothing but JSON is loaded; the weights are only hashed.
 * @param options id: what the user calls the model   cacheDir: where the hashes of large files are kept
 * @throws {EmbedError} MODEL_FILE_MISSING, MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID, FILE_UNREADABLE */
export async function loadModelSpec(
  folder: string,
  options: { id?: string | undefined; cacheDir?: string | undefined } = {},
): Promise<ModelSpec> {
  const root = resolve(folder)
  const modules = await readSentenceModules(root)
  const home = modules?.transformerFolder ?? root
  const configFile = join(home, 'config.json')
  const config = await readHfConfig(root, configFile)
  const { pooling, normalize } = modules ?? defaultModules(root, config)
  const weightFiles = await findWeightFiles(root, home)
  const tokenizer = join(home, 'tokenizer.json')
  if (!(await isFile(tokenizer))) {
    const fix = 'save the tokenizer in its fast form (tokenizer.json); vocab.txt alone is not read'
    throw new EmbedError('MODEL_FILE_MISSING', { folder: root, file: 'tokenizer.json', fix })
  }
  const family = familyOf(config)
  const { maxTokens, padTokenId } = await readTokenLimits(home, config, family)
  const { prompts, defaultPromptName } = await readPrompts(root)
  if (modules !== undefined) refuseUncomputed(root, modules, weightFiles.onnx, Object.keys(prompts))
  const hashed = weightFiles.weights.length > 0 ? weightFiles.weights : [weightFiles.onnx!]
  return {
    id: options.id ?? basename(root),
    folder: root,
    architecture: config.architecture,
    family,
    hiddenSize: config.hiddenSize,
    layerCount: config.layerCount,
    headCount: config.headCount,
    keyValueHeadCount: config.keyValueHeadCount,
    headSize: config.headSize,
    intermediateSize: config.intermediateSize,
    vocabularySize: config.vocabularySize,
    maxTokens,
    padTokenId,
    pooling,
    normalize,
    dimensions: modules?.denseDimensions ?? config.hiddenSize,
    prompts,
    defaultPromptName,
    files: { config: configFile, tokenizer, ...weightFiles },
    contentHash: await contentHash(
      root,
      [configFile, tokenizer, ...(modules?.files ?? []), ...hashed],
      options,
    ),
  }
}

/** The family whose graph fits a configuration; undefined when none does. */
export function familyOf(config: HfConfig): GraphFamily | undefined {
  const plain = config.positionEmbeddingType === 'absolute' && !config.isDecoder
  return plain && Object.hasOwn(familyByArchitecture, config.architecture)
    ? familyByArchitecture[config.architecture]
    : undefined
}

/** Qwen3-Embedding is often saved by transformers alone; nothing may be guessed for others: a wrong pooling gives
 * plausible vectors that are wrong. */
function defaultModules(folder: string, config: HfConfig): Pick<SentenceModules, 'pooling' | 'normalize'> {
  if (config.architecture === 'qwen3') return { pooling: 'last-token', normalize: true }
  const fix = 'it says how the tokens become one vector, with 1_Pooling/config.json; pull the whole model'
  throw new EmbedError('MODEL_FILE_MISSING', { folder, file: 'modules.json', fix })
}

/** Modules that are not computed here would be left out in silence; an ONNX file may hold them. */
function refuseUncomputed(
  folder: string,
  modules: SentenceModules,
  onnx: string | undefined,
  promptNames: readonly string[],
): void {
  const file = join(folder, 'modules.json')
  const [extra] = modules.extraModules
  if (extra !== undefined && onnx === undefined) {
    const reason = `the module '${extra}' is not supported; known are Transformer, Pooling and Normalize, or bring an onnx/model.onnx that holds it`
    throw new EmbedError('MODEL_CONFIG_INVALID', { file, reason })
  }
  if (!modules.includePrompt && promptNames.length > 0) {
    const reason = 'include_prompt false (pooling without the tokens of the prompt) is not supported'
    throw new EmbedError('MODEL_CONFIG_INVALID', { file, reason })
  }
}

const promptsSchema = Type.Object({
  prompts: Type.Optional(Type.Record(Type.String(), Type.String())),
  default_prompt_name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
})

async function readPrompts(folder: string): Promise<Pick<ModelSpec, 'prompts' | 'defaultPromptName'>> {
  const file = join(folder, 'config_sentence_transformers.json')
  const config = await readJsonFile(file, promptsSchema)
  const prompts = config?.prompts ?? {}
  const defaultPromptName = config?.default_prompt_name ?? undefined
  if (defaultPromptName !== undefined && !Object.hasOwn(prompts, defaultPromptName)) {
    const reason = `default_prompt_name '${defaultPromptName}' is none of its prompts (${Object.keys(prompts).join(', ')})`
    throw new EmbedError('MODEL_CONFIG_INVALID', { file, reason })
  }
  return { prompts, defaultPromptName }
}
