/** Golden vectors: what an engine must give for eight texts before it may answer anything. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { Engine } from '../../engines/engine.ts'
import { cosine } from '../../engines/vectors.ts'
import { EmbedError, toReason } from '../../errors.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { packBatch } from '../batching/packed-batch.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

/** Same depth below the package root from src/ and from dist/. */
const assetsFolder = new URL('../../../assets/golden/', import.meta.url)
const shippedFiles: Readonly<Record<string, string>> = {
  'sentence-transformers/all-MiniLM-L6-v2': 'all-MiniLM-L6-v2.json',
}

const goldenSchema = Type.Object({
  /** Who made the vectors, with versions. */
  madeBy: Type.String(),
  items: Type.Array(
    Type.Object({
      text: Type.String({ minLength: 1 }),
      /** base64 of f32 little-endian [dimensions], L2-normalised */
      vector: Type.String({ minLength: 8 }),
    }),
    { minItems: 1 },
  ),
})
type GoldenFile = Static<typeof goldenSchema>
const goldenValidator = Compile(goldenSchema)

export interface Golden {
  readonly source: 'shipped' | 'folder' | 'cache' | 'made'
  readonly madeBy: string
  readonly texts: readonly string[]
  readonly vectors: readonly Float32Array[]
}

/** Shipped for the model, else the folder's golden.json, else the cache; undefined when one must be made.
 * @throws {EmbedError} MODEL_FILE_CORRUPT */
export async function loadGolden(spec: ModelSpec, cacheDir: string): Promise<Golden | undefined> {
  const shipped = shippedFiles[spec.id]
  const places: [Golden['source'], string | URL][] = [
    ...(shipped === undefined
      ? []
      : [['shipped', new URL(shipped, assetsFolder)] as [Golden['source'], URL]]),
    ['folder', join(spec.folder, 'golden.json')],
    ['cache', cachePath(spec, cacheDir)],
  ]
  for (const [source, path] of places) {
    const text = await readFile(path, 'utf8').catch(() => undefined)
    if (text !== undefined) return { source, ...parse(text, String(path)) }
  }
  return undefined
}

/** Runs the eight bundled texts through a reference engine and keeps the vectors in the cache. */
export async function makeGolden(
  spec: ModelSpec,
  reference: Engine,
  tokenizer: Tokenizer,
  cacheDir: string,
): Promise<Golden> {
  const texts = await readBundledTexts()
  const vectors = await embedTexts(spec, reference, tokenizer, texts)
  const { name, precision, runtimeVersion } = reference.info
  const file: GoldenFile = {
    madeBy: `${name} ${runtimeVersion} ${precision}`,
    items: texts.map((text, i) => ({ text, vector: toBase64(vectors[i]!) })),
  }
  const path = cachePath(spec, cacheDir)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.${process.pid}`, JSON.stringify(file))
  await rename(`${path}.${process.pid}`, path)
  return { source: 'made', madeBy: file.madeBy, texts, vectors }
}

/** The texts that an engine is tried on. */
export async function goldenTexts(golden: Golden | undefined): Promise<readonly string[]> {
  return golden?.texts ?? readBundledTexts()
}

async function readBundledTexts(): Promise<string[]> {
  const text = await readFile(new URL('texts.json', assetsFolder), 'utf8')
  return (JSON.parse(text) as { texts: string[] }).texts
}

/** Worst cosine of the engine's vectors to the golden ones, over the texts that the engine takes whole; NaN: none. */
export async function compareWithGolden(
  spec: ModelSpec,
  engine: Engine,
  tokenizer: Tokenizer,
  golden: Golden,
): Promise<number> {
  const { maxTokens } = engine.info
  const encoded = await tokenizer.encode(golden.texts, { maxTokens: spec.maxTokens, truncation: 'right' })
  const whole = golden.texts.map((_, i) => i).filter((i) => encoded[i]!.ids.length <= maxTokens)
  if (whole.length === 0) return Number.NaN
  const texts = whole.map((i) => golden.texts[i]!)
  const vectors = await embedTexts(spec, engine, tokenizer, texts)
  const cosines = vectors.map((vector, place) => {
    const expected = golden.vectors[whole[place]!]!
    return vector.length === expected.length ? cosine(vector, expected) : Number.NaN
  })
  return Math.min(...cosines)
}

/** What can be seen without golden vectors: they are numbers. @throws {EmbedError} ENGINE_FAILED */
export async function checkFinite(spec: ModelSpec, engine: Engine, tokenizer: Tokenizer): Promise<void> {
  const limited = { ...spec, maxTokens: Math.min(spec.maxTokens, engine.info.maxTokens) }
  const vectors = await embedTexts(limited, engine, tokenizer, await readBundledTexts())
  if (vectors.every((vector) => Math.abs(cosine(vector, vector) - 1) < 1e-3)) return
  const reason = 'its vectors of the texts it is tried on are zero or not finite'
  throw new EmbedError('ENGINE_FAILED', { engine: engine.info.name, reason })
}

async function embedTexts(
  spec: ModelSpec,
  engine: Engine,
  tokenizer: Tokenizer,
  texts: readonly string[],
): Promise<Float32Array[]> {
  const tokenized = await tokenizer.encode(texts, { maxTokens: spec.maxTokens, truncation: 'right' })
  // Two ragged batches: padding is part of what is checked.
  const middle = texts.length >> 1
  const vectors: Float32Array[] = []
  for (const part of [tokenized.slice(0, middle), tokenized.slice(middle)]) {
    if (part.length === 0) continue
    const { values, rows, dimensions } = await engine.embed(packBatch(part.map((input) => input.ids)))
    for (let row = 0; row < rows; row++)
      vectors.push(values.subarray(row * dimensions, (row + 1) * dimensions))
  }
  return vectors
}

function cachePath(spec: ModelSpec, cacheDir: string): string {
  return join(cacheDir, 'golden', `${spec.contentHash}.json`)
}

function parse(text: string, path: string): Omit<Golden, 'source'> {
  let file: unknown
  try {
    file = JSON.parse(text)
  } catch (cause) {
    throw new EmbedError('MODEL_FILE_CORRUPT', { file: path, reason: toReason(cause) }, { cause })
  }
  if (!goldenValidator.Check(file)) {
    const [first] = goldenValidator.Errors(file)
    const reason = `${first?.instancePath ?? ''} ${first?.message ?? ''}`.trim()
    throw new EmbedError('MODEL_FILE_CORRUPT', { file: path, reason })
  }
  return {
    madeBy: file.madeBy,
    texts: file.items.map((item) => item.text),
    vectors: file.items.map((item) => fromBase64(item.vector)),
  }
}

function toBase64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')
}

function fromBase64(text: string): Float32Array {
  // A fresh buffer: Buffer's own pool is not aligned to four bytes.
  return new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer)
}
