/** FP8 weights on disk as they lie on the GPU: a second start neither reads the checkpoint's matrices nor quantises them.
 *
 * A file is the weights in the order they are loaded, each from a multiple of 256 bytes on, in chunks; then a JSON footer
 * with their sizes and a checksum a chunk; then the footer's length as u32. The bits do not depend on the GPU. */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'
import { Type } from 'typebox'
import { Check } from 'typebox/value'
import { EmbedError } from '../../errors.ts'
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import { runSideBySide } from './side-by-side.ts'

/** Raised whenever a model's weights are loaded in another order or form. */
const version = 1
const alignment = 256
const footerLengthBytes = 4
/** Large enough for a disk's full speed; as many at once as libuv has threads. */
const chunkBytes = 32 << 20
const chunksAtOnce = 4

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

/** Whole or not at all, also when several processes write at once. No fsync: a file that a power cut left half empty has the
 * wrong checksums. @throws {EmbedError} CUDA_STATUS; errors of the file system as they are */
export async function writeCachedWeights(
  path: string,
  pieces: readonly DeviceBuffer[],
  stream: GpuStream,
): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`
  const sizes = pieces.map(({ bytes }) => bytes)
  const { totalBytes, places } = layOut(sizes)
  await mkdir(dirname(path), { recursive: true })
  try {
    const file = await open(temporary, 'wx')
    try {
      const checksums: number[] = []
      await eachChunk(stream, totalBytes, async ({ index, atByte, bytes, pinned }) => {
        for (const [i, place] of places.entries()) {
          const from = Math.max(place.atByte, atByte)
          const end = Math.min(place.atByte + place.bytes, atByte + bytes)
          if (from >= end) continue
          const range = { bytes: end - from, fromByte: from - place.atByte, toByte: from - atByte }
          stream.copy(pinned, pieces[i]!, range)
        }
        await stream.idle()
        const memory = pinned.uint8(bytes)
        checksums[index] = crc32(memory)
        await writeAt(file, memory, atByte)
      })
      const footer = Buffer.from(JSON.stringify({ version, sizes, checksums }))
      const length = Buffer.alloc(footerLengthBytes)
      length.writeUInt32LE(footer.length)
      await writeAt(file, Buffer.concat([footer, length]), totalBytes)
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
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
    await runSideBySide(Math.ceil(totalBytes / chunkBytes), chunksAtOnce, async (index, place) => {
      const pinned = (buffers[place] ??= new PinnedBuffer(stream.gpu, 'cached weights', largestBytes))
      const atByte = index * chunkBytes
      await run({ index, atByte, bytes: Math.min(chunkBytes, totalBytes - atByte), pinned })
    })
  } finally {
    for (const pinned of buffers) pinned[Symbol.dispose]()
  }
}

function layOut(sizes: readonly number[]): {
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

async function writeAt(file: FileHandle, bytes: Uint8Array, atByte: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, atByte + done)
    done += bytesWritten
  }
}
