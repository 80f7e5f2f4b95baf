import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TinyModelOptions, writeTinyBert } from '../../test/fixtures/tiny-model.ts'
import { EmbedError } from '../errors.ts'
import { loadModelSpec } from './spec.ts'

let root: string
let made = 0
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'spec-'))
})
afterAll(() => rm(root, { recursive: true }))

async function makeModel(options?: TinyModelOptions): Promise<string> {
  const folder = join(root, `model-${made++}`)
  await writeTinyBert(folder, options)
  return folder
}

async function writeJson(folder: string, name: string, value: unknown): Promise<void> {
  await mkdir(join(folder, name, '..'), { recursive: true })
  await writeFile(join(folder, name), JSON.stringify(value))
}

/** modules.json of a Transformer, the given modules and, last, a Normalize. */
function writeModules(folder: string, ...types: readonly string[]): Promise<void> {
  const all = ['Transformer', ...types, 'Normalize']
  const modules = all.map((type, i) => ({
    idx: i,
    path: i === 0 ? '' : `${i}_${type}`,
    type: `models.${type}`,
  }))
  return writeJson(folder, 'modules.json', modules)
}

describe('loadModelSpec', () => {
  test('reads a whole folder', async () => {
    const prompts = { query: 'query: ', document: '' }
    const folder = await makeModel({ prompts, defaultPromptName: 'document' })
    const spec = await loadModelSpec(folder)
    expect(spec).toEqual({
      id: basename(folder),
      folder,
      architecture: 'bert',
      family: 'bert',
      hiddenSize: 32,
      layerCount: 2,
      headCount: 4,
      keyValueHeadCount: 4,
      headSize: 8,
      intermediateSize: 64,
      vocabularySize: 330,
      maxTokens: 64,
      padTokenId: 0,
      pooling: 'mean',
      normalize: true,
      dimensions: 32,
      prompts,
      defaultPromptName: 'document',
      files: {
        config: join(folder, 'config.json'),
        tokenizer: join(folder, 'tokenizer.json'),
        weights: [join(folder, 'model.safetensors')],
        onnx: undefined,
      },
      contentHash: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect((await loadModelSpec(folder, { id: 'org/name' })).id).toBe('org/name')
  })

  test.each([
    ['config.json', { config: { layer_norm_eps: 1e-5 } }],
    ['the pooling', { pooling: 'cls' }],
    ['the weights', { family: 'mpnet' }],
  ] as const)('another value in %s is another content hash', async (_, options) => {
    const { contentHash } = await loadModelSpec(await makeModel())
    expect((await loadModelSpec(await makeModel())).contentHash).toBe(contentHash)
    expect((await loadModelSpec(await makeModel(options))).contentHash).not.toBe(contentHash)
  })
})

describe('the longest input', () => {
  test.each([
    ['max_seq_length', { maxSequenceLength: 20 }, {}, 20],
    ['max_position_embeddings', { config: { max_position_embeddings: 30 } }, {}, 30],
    ['model_max_length', {}, { model_max_length: 25 }, 25],
    ['a model_max_length that means none', {}, { model_max_length: 1e30 }, 64],
    [
      'positions after the padding id, XLM-R',
      { family: 'xlm-roberta', config: { max_position_embeddings: 40 } },
      {},
      38,
    ],
    [
      'positions after the padding id, MPNet',
      { family: 'mpnet', config: { max_position_embeddings: 50 } },
      {},
      48,
    ],
    [
      'positions after padding id 4',
      { family: 'mpnet', config: { max_position_embeddings: 50, pad_token_id: 4 } },
      {},
      45,
    ],
  ] as const)('is the least that is stated: %s', async (_, options, tokenizerConfig, expected) => {
    const folder = await makeModel(options)
    await writeJson(folder, 'tokenizer_config.json', tokenizerConfig)
    expect((await loadModelSpec(folder)).maxTokens).toBe(expected)
  })

  test('is 512 where nothing states it', async () => {
    const folder = await makeModel({ config: { model_type: 't5', max_position_embeddings: null } })
    await rm(join(folder, 'sentence_bert_config.json'))
    await rm(join(folder, 'tokenizer_config.json'))
    expect((await loadModelSpec(folder)).maxTokens).toBe(512)
  })
})

describe('pooling', () => {
  test.each([
    ['cls', 'cls'],
    ['lasttoken', 'last-token'],
  ] as const)('by the old flags: %s', async (mode, pooling) => {
    expect((await loadModelSpec(await makeModel({ pooling: mode }))).pooling).toBe(pooling)
  })

  test.each([
    ['lasttoken', 'last-token'],
    [['cls'], 'cls'],
    [undefined, 'mean'],
  ])('by the new key: %j', async (mode, pooling) => {
    const folder = await makeModel()
    await writeJson(folder, '1_Pooling/config.json', { embedding_dimension: 32, pooling_mode: mode })
    expect((await loadModelSpec(folder)).pooling).toBe(pooling)
  })

  test.each([
    [{ pooling_mode: 'weightedmean' }, "'weightedmean'"],
    [{ pooling_mode: ['cls', 'mean'] }, "'cls + mean'"],
    [{ pooling_mode_max_tokens: true }, "'max'"],
    [{ pooling_mode_mean_tokens: true, pooling_mode_cls_token: true }, "'cls + mean'"],
  ])('%j is refused by name', async (config, words) => {
    const folder = await makeModel()
    await writeJson(folder, '1_Pooling/config.json', config)
    await expect(loadModelSpec(folder)).rejects.toMatchObject({
      code: 'MODEL_CONFIG_INVALID',
      message: expect.stringContaining(words),
    })
  })

  test('without modules.json is the last token for qwen3, and an error for others', async () => {
    const config = { model_type: 'qwen3', num_key_value_heads: 2, head_dim: 16, pad_token_id: null }
    const qwen = await makeModel({ config })
    await rm(join(qwen, 'modules.json'))
    expect(await loadModelSpec(qwen)).toMatchObject({
      family: 'qwen3',
      pooling: 'last-token',
      normalize: true,
      keyValueHeadCount: 2,
      headSize: 16,
    })
    const bert = await makeModel()
    await rm(join(bert, 'modules.json'))
    await expect(loadModelSpec(bert)).rejects.toMatchObject({
      code: 'MODEL_FILE_MISSING',
      details: { file: 'modules.json' },
    })
  })

  test('the module of normalisation is seen', async () => {
    expect((await loadModelSpec(await makeModel({ normalize: false }))).normalize).toBe(false)
  })
})

describe('modules', () => {
  test('a dense module is refused by name, unless there is an ONNX file', async () => {
    const folder = await makeModel()
    await writeModules(folder, 'Pooling', 'Dense')
    await writeJson(folder, '2_Dense/config.json', { in_features: 32, out_features: 16 })
    await expect(loadModelSpec(folder)).rejects.toMatchObject({
      code: 'MODEL_CONFIG_INVALID',
      message: expect.stringContaining("'2_Dense'"),
    })
    await writeJson(folder, 'onnx/model.onnx', {})
    expect(await loadModelSpec(folder)).toMatchObject({ dimensions: 16, normalize: true })
  })

  test('a pooling that leaves out the prompt is refused when there are prompts', async () => {
    const folder = await makeModel({ prompts: { query: 'query: ' } })
    await writeJson(folder, '1_Pooling/config.json', { pooling_mode: 'mean', include_prompt: false })
    await expect(loadModelSpec(folder)).rejects.toMatchObject({ code: 'MODEL_CONFIG_INVALID' })
    await rm(join(folder, 'config_sentence_transformers.json'))
    expect((await loadModelSpec(folder)).prompts).toEqual({})
  })

  test('the transformer may have a folder of its own', async () => {
    const folder = await makeModel()
    await mkdir(join(folder, '0_Transformer'))
    for (const name of ['config.json', 'tokenizer.json', 'model.safetensors', 'sentence_bert_config.json']) {
      await rename(join(folder, name), join(folder, '0_Transformer', name))
    }
    const modules = [
      { path: '0_Transformer', type: 'sentence_transformers.models.Transformer' },
      { path: '1_Pooling', type: 'sentence_transformers.sentence_transformer.modules.pooling.Pooling' },
    ]
    await writeJson(folder, 'modules.json', modules)
    const { files, normalize } = await loadModelSpec(folder)
    expect(files.weights).toEqual([join(folder, '0_Transformer', 'model.safetensors')])
    expect(normalize).toBe(false)
  })

  test.each(['../elsewhere', '/etc', 'a/../../b'])(
    'the path %s leaves the folder and is refused',
    async (path) => {
      const folder = await makeModel()
      await writeJson(folder, 'modules.json', [{ path, type: 'sentence_transformers.models.Pooling' }])
      await expect(loadModelSpec(folder)).rejects.toMatchObject({ code: 'MODEL_CONFIG_INVALID' })
    },
  )
})

describe('files', () => {
  test.each(['config.json', 'tokenizer.json', 'model.safetensors', '1_Pooling/config.json'])(
    'a missing %s is named',
    async (name) => {
      const folder = await makeModel()
      await rm(join(folder, name))
      await expect(loadModelSpec(folder)).rejects.toMatchObject({
        code: 'MODEL_FILE_MISSING',
        details: { folder, file: name },
      })
    },
  )

  test('shards are found through the index, in order', async () => {
    const folder = await makeModel()
    await rename(join(folder, 'model.safetensors'), join(folder, 'model-00001-of-00002.safetensors'))
    const index = {
      weight_map: { b: 'model-00002-of-00002.safetensors', a: 'model-00001-of-00002.safetensors' },
    }
    await writeJson(folder, 'model.safetensors.index.json', index)
    await expect(loadModelSpec(folder)).rejects.toMatchObject({
      code: 'MODEL_FILE_MISSING',
      details: { file: 'model-00002-of-00002.safetensors' },
    })
    await writeFile(join(folder, 'model-00002-of-00002.safetensors'), 'x')
    const { files } = await loadModelSpec(folder)
    expect(files.weights.map((file) => basename(file))).toEqual([
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
    ])
  })

  test.each(['../../secret.safetensors', 'a\\b.safetensors', 'model.bin'])(
    'the shard %s is refused',
    async (name) => {
      const folder = await makeModel()
      await rm(join(folder, 'model.safetensors'))
      await writeJson(folder, 'model.safetensors.index.json', { weight_map: { a: name } })
      await expect(loadModelSpec(folder)).rejects.toMatchObject({ code: 'MODEL_FILE_CORRUPT' })
    },
  )

  test('an ONNX file is enough, for any architecture, and is what is hashed then', async () => {
    const config = {
      model_type: 'distilbert',
      hidden_size: null,
      dim: 48,
      n_heads: 4,
      num_attention_heads: null,
    }
    const folder = await makeModel({ config })
    await rm(join(folder, 'model.safetensors'))
    await writeFile(join(folder, 'model.onnx'), 'one')
    const spec = await loadModelSpec(folder)
    expect(spec).toMatchObject({
      architecture: 'distilbert',
      family: undefined,
      hiddenSize: 48,
      headSize: 12,
    })
    expect(spec.files).toMatchObject({ weights: [], onnx: join(folder, 'model.onnx') })
    await writeFile(join(folder, 'model.onnx'), 'two')
    expect((await loadModelSpec(folder)).contentHash).not.toBe(spec.contentHash)
    await writeJson(folder, 'onnx/model.onnx', {})
    expect((await loadModelSpec(folder)).files.onnx).toBe(join(folder, 'onnx', 'model.onnx'))
  })

  test('pytorch_model.bin alone is explained', async () => {
    const folder = await makeModel()
    await rename(join(folder, 'model.safetensors'), join(folder, 'pytorch_model.bin'))
    await expect(loadModelSpec(folder)).rejects.toThrow(/pytorch_model\.bin is not read/)
  })
})

describe('the padding id', () => {
  test('is looked up by its token when config.json has none', async () => {
    const folder = await makeModel({ config: { pad_token_id: null } })
    await writeJson(folder, 'tokenizer_config.json', { pad_token: { content: '[MASK]', special: true } })
    expect((await loadModelSpec(folder)).padTokenId).toBe(4)
  })

  test('outside the vocabulary is refused', async () => {
    const folder = await makeModel({ config: { pad_token_id: 330 } })
    await expect(loadModelSpec(folder)).rejects.toMatchObject({ code: 'MODEL_CONFIG_INVALID' })
  })
})

describe('bad values', () => {
  test.each([
    [{ hidden_size: '32' }, 'MODEL_FILE_CORRUPT', '/hidden_size'],
    [{ num_hidden_layers: 0 }, 'MODEL_FILE_CORRUPT', '/num_hidden_layers'],
    [{ layer_norm_eps: -1 }, 'MODEL_FILE_CORRUPT', '/layer_norm_eps'],
    [{ model_type: undefined }, 'MODEL_FILE_CORRUPT', 'model_type'],
    [{ vocab_size: undefined }, 'MODEL_CONFIG_INVALID', 'vocab_size'],
    [{ num_attention_heads: 5 }, 'MODEL_CONFIG_INVALID', 'multiple'],
    [{ max_position_embeddings: 1, model_type: 'mpnet' }, 'MODEL_CONFIG_INVALID', 'max_position_embeddings'],
  ])('config.json with %j', async (config, code, words) => {
    const folder = await makeModel({ config })
    await expect(loadModelSpec(folder)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(words),
    })
  })

  test('a default prompt that does not exist', async () => {
    const folder = await makeModel({ prompts: { query: 'q' }, defaultPromptName: 'passage' })
    await expect(loadModelSpec(folder)).rejects.toMatchObject({
      code: 'MODEL_CONFIG_INVALID',
      message: expect.stringContaining("'passage'"),
    })
  })

  test('any damage to any JSON file gives a model or an error of ours', async () => {
    const folder = await makeModel({ prompts: { query: 'q' } })
    const names = [
      'config.json',
      'modules.json',
      '1_Pooling/config.json',
      'sentence_bert_config.json',
      'tokenizer_config.json',
      'config_sentence_transformers.json',
    ]
    const edit = fc.record({
      name: fc.constantFrom(...names),
      place: fc.nat(700),
      text: fc.string({ maxLength: 3 }),
    })
    await fc.assert(
      fc.asyncProperty(edit, async ({ name, place, text }) => {
        const path = join(folder, name)
        const whole = await readFile(path, 'utf8')
        const at = place % whole.length
        await writeFile(path, whole.slice(0, at) + text + whole.slice(at + 1 + (place % 3)))
        try {
          await loadModelSpec(folder)
        } catch (error) {
          expect(error).toBeInstanceOf(EmbedError)
          expect(error).toMatchObject({ code: expect.stringMatching(/^MODEL_/) })
        } finally {
          await writeFile(path, whole)
        }
      }),
      { numRuns: 300 },
    )
  })
})
