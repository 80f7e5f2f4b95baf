import { join, normalize as normalizePath, sep } from 'node:path'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../errors.ts'
import { readJsonFile } from './json-file.ts'
import type { Pooling } from './spec.ts'

const modulesSchema = Type.Array(Type.Object({ path: Type.String(), type: Type.String() }), { minItems: 1 })

const flag = Type.Optional(Type.Boolean())
const poolingSchema = Type.Object({
  pooling_mode: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1 })])),
  pooling_mode_cls_token: flag,
  pooling_mode_max_tokens: flag,
  pooling_mode_mean_tokens: flag,
  pooling_mode_mean_sqrt_len_tokens: flag,
  pooling_mode_weightedmean_tokens: flag,
  pooling_mode_lasttoken: flag,
  include_prompt: flag,
})
const denseSchema = Type.Object({ out_features: Type.Integer({ minimum: 1 }) })

/** sentence-transformers' names of the modes, and ours. */
const poolingByMode: Readonly<Record<string, Pooling>> = {
  cls: 'cls',
  mean: 'mean',
  lasttoken: 'last-token',
}

/** What sentence-transformers does around the transformer. */
export interface SentenceModules {
  /** Where config.json, the tokenizer and the weights are; the model's folder, or one in it. Absolute path. */
  readonly transformerFolder: string
  readonly pooling: Pooling
  readonly normalize: boolean
  /** False: the prompt's tokens are left out of the pooling. */
  readonly includePrompt: boolean
  /** Paths of modules that are no part of what is computed here, such as '2_Dense'. */
  readonly extraModules: readonly string[]
  /** Length of the vectors after a dense module, when there is one. */
  readonly denseDimensions: number | undefined
  /** Absolute paths of the files that were read. */
  readonly files: readonly string[]
}

/** Reads modules.json and the folders it names; undefined when the folder has no modules.json.
 * @throws {EmbedError} MODEL_FILE_MISSING, MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID (a pooling that is not known) */
export async function readSentenceModules(folder: string): Promise<SentenceModules | undefined> {
  const modulesFile = join(folder, 'modules.json')
  const modules = await readJsonFile(modulesFile, modulesSchema)
  if (modules === undefined) return undefined
  let transformerFolder = folder
  let pooling: { mode: Pooling; includePrompt: boolean } | undefined
  let normalize = false
  let denseDimensions: number | undefined
  const extraModules: string[] = []
  const files = [modulesFile]
  for (const { path, type } of modules) {
    const moduleFolder = join(folder, insideFolder(modulesFile, path))
    const configFile = join(moduleFolder, 'config.json')
    // 'sentence_transformers.models.Pooling' up to 5.x, longer paths since.
    switch (type.slice(type.lastIndexOf('.') + 1)) {
      case 'Transformer':
        transformerFolder = moduleFolder
        break
      case 'Pooling':
        pooling = await readPooling(folder, configFile, path)
        files.push(configFile)
        break
      case 'Normalize':
        normalize = true
        break
      case 'Dropout':
        break
      case 'Dense':
        denseDimensions = (await readJsonFile(configFile, denseSchema))?.out_features
        extraModules.push(path)
        break
      default:
        extraModules.push(path === '' ? type : path)
    }
  }
  if (pooling === undefined) {
    const reason =
      'names no Pooling module; only models that give one vector a text by cls, mean or last-token pooling are served'
    throw new EmbedError('MODEL_CONFIG_INVALID', { file: modulesFile, reason })
  }
  const { mode, includePrompt } = pooling
  return { transformerFolder, pooling: mode, normalize, includePrompt, extraModules, denseDimensions, files }
}

async function readPooling(folder: string, configFile: string, path: string) {
  const config = await readJsonFile(configFile, poolingSchema)
  if (config === undefined) {
    const fix = 'modules.json names it; pull the model again'
    throw new EmbedError('MODEL_FILE_MISSING', { folder, file: join(path, 'config.json'), fix })
  }
  const modes = poolingModes(config)
  const mode = modes.length === 1 ? poolingByMode[modes[0]!] : undefined
  if (mode === undefined) {
    const reason = `pooling '${modes.join(' + ')}' is not supported; known are cls, mean and lasttoken, one of them at a time`
    throw new EmbedError('MODEL_CONFIG_INVALID', { file: configFile, reason })
  }
  return { mode, includePrompt: config.include_prompt ?? true }
}

function poolingModes(config: Static<typeof poolingSchema>): readonly string[] {
  if (config.pooling_mode !== undefined) return [config.pooling_mode].flat()
  const flags: readonly (readonly [string, boolean | undefined])[] = [
    ['cls', config.pooling_mode_cls_token],
    ['max', config.pooling_mode_max_tokens],
    ['mean', config.pooling_mode_mean_tokens],
    ['mean_sqrt_len_tokens', config.pooling_mode_mean_sqrt_len_tokens],
    ['weightedmean', config.pooling_mode_weightedmean_tokens],
    ['lasttoken', config.pooling_mode_lasttoken],
  ]
  const active = flags.filter(([, on]) => on === true).map(([mode]) => mode)
  // None named is mean, as in sentence-transformers.
  return active.length === 0 ? ['mean'] : active
}

/** A model is someone else's file: a path that leaves the folder is refused. */
function insideFolder(file: string, path: string): string {
  const normal = normalizePath(path === '' ? '.' : path)
  if (normal === '..' || normal.startsWith(`..${sep}`) || normal.startsWith(sep) || path.includes('\0')) {
    const reason = `the path '${path}' leaves the model's folder`
    throw new EmbedError('MODEL_CONFIG_INVALID', { file, reason })
  }
  return normal
}
