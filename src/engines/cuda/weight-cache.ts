/** FP8 weights on disk as they lie on the GPU: a second start neither reads the checkpoint's matrices nor quantises them.
 *
 * A file is the weights in the order they are loaded, each from a multiple of 256 bytes on, in chunks; then a JSON footer
 * with their sizes and a checksum a chunk; then the footer's length as u32. The bits do not depend on the GPU. */
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { Type } from 'typebox'
import { Check } from 'typebox/value'
import { EmbedError } from '../../errors.ts'
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import { readsAtOnce, runSideBySide } from './side-by-side.ts'

/** Raised whenever a model's weights are loaded in another order or form. */
const version = 1
const alignment = 256
const footerLengthBytes = 4
/** Large enough for a disk's full speed. */
export const chunkBytes: number = 32 << 20

const footerSchema = Type.Object({
  version: Type.Literal(version),
  sizes: Type.Array(Type.Integer({ minimum: 1 })),
  checksums: Type.Array(Type.Integer()),
})

/** One file a model and precision. @param contentHash ModelSpec.contentHash */
export function weightCachePath(folder: string, contentHash: string, precision: MatmulPrecision): string {
  return join(folder, `${contentHash.slice(0, 32)}-${precision}-v${version}.weights`)
}

/** Weights that came from the disk, handed out in the order they were stored in. */
export class CachedWeights {
  readonly buffer: DeviceBuffer
  readonly #pieces: Iterator<{ readonly atByte: number; readonly bytes: number }>

  constructor(buffer: DeviceBuffer, sizes: readonly number[]) {
    this.buffer = buffer
    this.#pieces = layOut(sizes).places[Symbol.iterator]()
  }

  /** @throws {EmbedError} INTERNAL when the model loads them in another order than it stored them */
  take(bytes: number): DevicePointer {
    const { value } = this.#pieces.next()
    if (value?.bytes !== bytes) {
      const reason = `the next cached weight has ${value?.bytes ?? 'no'} bytes, the model loads ${bytes}`
      throw new EmbedError('INTERNAL', { reason })
    }
    return (this.buffer.handle + BigInt(value.atByte)) as DevicePointer
  }
}

/** @returns undefined when there is no such file, or it is not what was written
 * @throws {EmbedError} GPU_OUT_OF_MEMORY, CUDA_STATUS */
export async function readCachedWeights(path: string, stream: GpuStream): Promise<CachedWeights | undefined> {
  const file = await open(path, 'r').catch(() => undefined)
  if (file === undefined) return undefined
  try {
    const footer = await readFooter(file)
    if (footer === undefined) return undefined
    const { sizes, checksums } = footer
    const { totalBytes } = layOut(sizes)
    const buffer = new DeviceBuffer(stream.gpu, 'weights', totalBytes)
    let isWhole = true
    await eachChunk(stream, totalBytes, async ({ index, atByte, bytes, pinned }) => {
      const memory = pinned.uint8(bytes)
      isWhole &&= (await readFully(file, memory, atByte)) && crc32(memory) === checksums[index]
      if (!isWhole) return
      stream.copy(buffer, pinned, { bytes, toByte: atByte })
      await stream.idle()
    })
    if (isWhole) return new CachedWeights(buffer, sizes)
    buffer[Symbol.dispose]()
    return undefined
  } finally {
    await file.close()
  }
}

interface Chunk {
  readonly index: number
  readonly atByte: number
  readonly bytes: number
  /** The chunk's own until it is done. */
  readonly pinned: PinnedBuffer
}

async function eachChunk(
  stream: GpuStream,
  totalBytes: number,
  run: (chunk: Chunk) => Promise<void>,
): Promise<void> {
  const largestBytes = Math.min(chunkBytes, totalBytes)
  const buffers: PinnedBuffer[] = []
  try {
    await runSideBySide(Math.ceil(totalBytes / chunkBytes), readsAtOnce, async (index, place) => {
      const pinned = (buffers[place] ??= new PinnedBuffer(stream.gpu, 'cached weights', largestBytes))
      const atByte = index * chunkBytes
      await run({ index, atByte, bytes: Math.min(chunkBytes, totalBytes - atByte), pinned })
    })
  } finally {
    for (const pinned of buffers) pinned[Symbol.dispose]()
  }
}

/** Where in the file each weight is. */
export function layOut(sizes: readonly number[]): {
  places: { atByte: number; bytes: number }[]
  totalBytes: number
} {
  let totalBytes = 0
  const places = sizes.map((bytes) => {
    const atByte = totalBytes
    totalBytes += Math.ceil(bytes / alignment) * alignment
    return { atByte, bytes }
  })
  return { places, totalBytes }
}

/** What stands behind the weights. @param checksums crc32 of each chunk */
export function makeFooter(sizes: readonly number[], checksums: readonly number[]): Buffer {
  const footer = Buffer.from(JSON.stringify({ version, sizes, checksums }))
  const length = Buffer.alloc(footerLengthBytes)
  length.writeUInt32LE(footer.length)
  return Buffer.concat([footer, length])
}

async function readFooter(file: FileHandle): Promise<Type.Static<typeof footerSchema> | undefined> {
  const { size } = await file.stat()
  const length = Buffer.alloc(footerLengthBytes)
  if (size < footerLengthBytes || !(await readFully(file, length, size - footerLengthBytes))) return undefined
  const footer = Buffer.alloc(Math.min(length.readUInt32LE(), size))
  const atByte = size - footerLengthBytes - footer.length
  if (atByte < 0 || !(await readFully(file, footer, atByte))) return undefined
  try {
    const value: unknown = JSON.parse(footer.toString())
    return Check(footerSchema, value) && layOut(value.sizes).totalBytes === atByte ? value : undefined
  } catch {
    return undefined
  }
}

/** @returns false when the file ends before */
async function readFully(file: FileHandle, into: Uint8Array, atByte: number): Promise<boolean> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.read(into, done, into.length - done, atByte + done)
    if (bytesRead === 0) return false
    done += bytesRead
  }
  return true
}
