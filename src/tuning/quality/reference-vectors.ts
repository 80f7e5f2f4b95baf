/** What the vectors should be, computed once and kept. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

export type EmbedTexts = (texts: readonly string[]) => Promise<readonly Float32Array[]>

export interface ReferenceOptions {
  readonly cacheDir: string
  /** Of the model's files. */
  readonly modelHash: string
  readonly dimensions: number
  /** Who computes them, e.g. 'onnx fp32'; part of the key. */
  readonly madeBy: string
  /** Called once a text, and only where the cache does not have them. */
  readonly embed: EmbedTexts
  readonly onText?: (done: number, of: number) => void
}

/** Vectors of the texts, each computed alone, so that no padding takes part. A cache that cannot be written makes the next
 * run slower, no more. */
export async function loadReferenceVectors(
  texts: readonly string[],
  options: ReferenceOptions,
): Promise<Float32Array[]> {
  const { cacheDir, modelHash, dimensions, madeBy, embed } = options
  const key = createHash('sha256')
    .update(JSON.stringify([modelHash, madeBy, texts]))
    .digest('hex')
  const path = join(cacheDir, 'quality', `${key}.f32`)
  const kept = await readFile(path).catch(() => undefined)
  if (kept?.length === texts.length * dimensions * 4) return split(kept, dimensions)
  const vectors: Float32Array[] = []
  for (const text of texts) {
    const [vector] = await embed([text])
    vectors.push(vector!)
    options.onText?.(vectors.length, texts.length)
  }
  const bytes = Buffer.concat(
    vectors.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)),
  )
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(`${path}.${process.pid}`, bytes)
    await rename(`${path}.${process.pid}`, path)
  } catch {
    // See above.
  }
  return vectors
}

function split(bytes: Buffer, dimensions: number): Float32Array[] {
  // A fresh buffer: Buffer's own memory is not aligned to four bytes.
  const values = new Float32Array(new Uint8Array(bytes).buffer)
  return Array.from({ length: values.length / dimensions }, (_, row) =>
    values.subarray(row * dimensions, (row + 1) * dimensions),
  )
}
