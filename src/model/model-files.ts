import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Type } from 'typebox'
import { EmbedError } from '../errors.ts'
import { readJsonFile } from './json-file.ts'

const indexSchema = Type.Object({ weight_map: Type.Record(Type.String(), Type.String()) })

/** The files that hold a model's weights. Absolute paths. */
export interface WeightFiles {
  /** One safetensors file, or the shards of one model in the order of their names; empty when there is none. */
  readonly weights: readonly string[]
  /** onnx/model.onnx or model.onnx, when the folder brings one. */
  readonly onnx: string | undefined
}

/** Finds model.safetensors, or the shards that model.safetensors.index.json names, and the ONNX file.
 * @throws {EmbedError} MODEL_FILE_MISSING (neither is there, or a shard is not), MODEL_FILE_CORRUPT */
export async function findWeightFiles(folder: string, transformerFolder: string): Promise<WeightFiles> {
  const weights = await findSafetensors(transformerFolder)
  const places = [...new Set([folder, transformerFolder])]
  const onnx = await firstFile(
    places.flatMap((place) => [join(place, 'onnx', 'model.onnx'), join(place, 'model.onnx')]),
  )
  if (weights.length === 0 && onnx === undefined) {
    const fix = (await firstFile([join(transformerFolder, 'pytorch_model.bin')]))
      ? 'pytorch_model.bin is not read (it can run code); save the model as safetensors, or export it to onnx/model.onnx'
      : 'pull the model again, or give a folder that has model.safetensors or onnx/model.onnx'
    throw new EmbedError('MODEL_FILE_MISSING', { folder, file: 'model.safetensors', fix })
  }
  return { weights, onnx }
}

async function findSafetensors(folder: string): Promise<readonly string[]> {
  const single = await firstFile([join(folder, 'model.safetensors')])
  if (single !== undefined) return [single]
  const indexFile = join(folder, 'model.safetensors.index.json')
  const index = await readJsonFile(indexFile, indexSchema)
  if (index === undefined) return []
  const names = [...new Set(Object.values(index.weight_map))].sort()
  if (names.length === 0) {
    throw new EmbedError('MODEL_FILE_CORRUPT', { file: indexFile, reason: 'its weight_map is empty' })
  }
  for (const name of names) {
    if (name !== basename(name) || name === '..' || name.includes('\\') || !name.endsWith('.safetensors')) {
      const reason = `'${name}' is not the name of a safetensors file`
      throw new EmbedError('MODEL_FILE_CORRUPT', { file: indexFile, reason })
    }
    if ((await firstFile([join(folder, name)])) === undefined) {
      const fix = 'model.safetensors.index.json names it; pull the model again'
      throw new EmbedError('MODEL_FILE_MISSING', { folder, file: name, fix })
    }
  }
  return names.map((name) => join(folder, name))
}

async function firstFile(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    if (await isFile(path)) return path
  }
  return undefined
}

/** Whether a regular file, or a link to one, is there. */
export async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
