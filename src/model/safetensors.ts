import { type FileHandle, open } from 'node:fs/promises'
import { EmbedError, toReason } from '../errors.ts'
import { widenBfloat16, widenFloat16 } from './float16.ts'
import {
  lengthBytes,
  parseHeader,
  parseHeaderLength,
  type SafetensorsDtype,
  type TensorPlace,
} from './safetensors-header.ts'

export interface TensorInfo {
  readonly dtype: SafetensorsDtype
  readonly shape: readonly number[]
  readonly byteLength: number
  /** The file that holds it; absolute or as it was given. */
  readonly file: string
}

/** The tensors of one model, over one file or several shards; the files stay open until it is disposed. */
export interface Safetensors extends AsyncDisposable {
  names(): readonly string[]
  /** undefined when there is none of that name. */
  tensor(name: string): TensorInfo | undefined
  /** The bytes as they are in the file, all or those from `begin` to `end` of the tensor; the caller owns them.
   * @throws {EmbedError} MODEL_FILE_CORRUPT (no such tensor, the file was cut), FILE_UNREADABLE */
  readBytes(name: string, begin?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>
  /** Fills `memory` with the bytes of the tensor from `begin` on.
   * @throws {EmbedError} MODEL_FILE_CORRUPT, FILE_UNREADABLE */
  readInto(name: string, memory: Uint8Array, begin: number): Promise<void>
  /** F32, F16 and BF16 as f32, in the order of the file; the caller owns them.
   * @throws {EmbedError} MODEL_FILE_CORRUPT, FILE_UNREADABLE, MODEL_CONFIG_INVALID (another type) */
  readFloat32(name: string): Promise<Float32Array>
}

interface Located extends TensorPlace {
  readonly file: string
  readonly handle: FileHandle
}

/** Opens the files and reads their headers, not the tensors.
 * @throws {EmbedError} MODEL_FILE_CORRUPT (header, offsets, a name in two files), FILE_UNREADABLE */
export async function openSafetensors(paths: readonly string[]): Promise<Safetensors> {
  const handles: FileHandle[] = []
  const tensors = new Map<string, Located>()
  const close = async () => {
    await Promise.all(handles.splice(0).map((handle) => handle.close()))
  }
  try {
    for (const file of paths) {
      const handle = await reading(file, () => open(file, 'r'))
      handles.push(handle)
      for (const [name, place] of await readHeader(file, handle)) {
        const other = tensors.get(name)
        if (other !== undefined) {
          const reason = `tensor '${name}' is in ${other.file} too`
          throw new EmbedError('MODEL_FILE_CORRUPT', { file, reason })
        }
        tensors.set(name, { ...place, file, handle })
      }
    }
  } catch (error) {
    await close()
    throw error
  }
  const locate = (name: string): Located => {
    const located = tensors.get(name)
    if (located !== undefined) return located
    const reason = `it has no tensor '${name}'`
    throw new EmbedError('MODEL_FILE_CORRUPT', { file: paths.join(', '), reason })
  }
  return {
    names: () => [...tensors.keys()],
    tensor(name) {
      const located = tensors.get(name)
      if (located === undefined) return undefined
      const { dtype, shape, begin, end, file } = located
      return { dtype, shape, byteLength: end - begin, file }
    },
    readBytes: (name, begin, end) => readTensor(locate(name), begin, end),
    async readInto(name, memory, from) {
      const { file, handle, begin } = locate(name)
      await fill(file, handle, memory, begin + from)
    },
    async readFloat32(name) {
      const located = locate(name)
      if (located.dtype !== 'F32' && located.dtype !== 'F16' && located.dtype !== 'BF16') {
        const reason = `tensor '${name}' is ${located.dtype}; only F32, F16 and BF16 weights are read`
        throw new EmbedError('MODEL_CONFIG_INVALID', { file: located.file, reason })
      }
      const { buffer } = await readTensor(located)
      if (located.dtype === 'F32') return new Float32Array(buffer)
      const halves = new Uint16Array(buffer)
      return located.dtype === 'BF16' ? widenBfloat16(halves) : widenFloat16(halves)
    },
    [Symbol.asyncDispose]: close,
  }
}

async function readHeader(file: string, handle: FileHandle): Promise<Map<string, TensorPlace>> {
  const { size } = await reading(file, () => handle.stat())
  const start = await readRange(file, handle, 0, Math.min(lengthBytes, size))
  const headerLength = parseHeaderLength(file, start, size)
  return parseHeader(file, await readRange(file, handle, lengthBytes, lengthBytes + headerLength), size)
}

function readTensor(
  { file, handle, begin, end }: Located,
  from = 0,
  to = end - begin,
): Promise<Uint8Array<ArrayBuffer>> {
  return readRange(file, handle, begin + from, begin + Math.min(to, end - begin))
}

/** One read() gives 2 GiB at most. */
const maxReadBytes = 1 << 30

/** @returns an array that owns its whole buffer, so that it can be seen as any element type */
async function readRange(
  file: string,
  handle: FileHandle,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - begin)
  await fill(file, handle, bytes, begin)
  return bytes
}

async function fill(file: string, handle: FileHandle, memory: Uint8Array, begin: number): Promise<void> {
  for (let filled = 0; filled < memory.length;) {
    const length = Math.min(maxReadBytes, memory.length - filled)
    const { bytesRead } = await reading(file, () => handle.read(memory, filled, length, begin + filled))
    if (bytesRead === 0) {
      const reason = `it ends at byte ${begin + filled}, tensors were to go on to ${begin + memory.length}`
      throw new EmbedError('MODEL_FILE_CORRUPT', { file, reason })
    }
    filled += bytesRead
  }
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
  }
}
