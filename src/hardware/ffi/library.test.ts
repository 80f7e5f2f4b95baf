import { describe, expect, it } from 'vitest'
import { findOnnxruntimeLibrary } from '../machine/onnxruntime-library.ts'
import {
  addressOf,
  loadLibrary,
  type Out,
  type Pointer,
  readOut,
  readOutAsync,
  readText,
  viewMemory,
  viewPieces,
} from './library.ts'
import { loadOnnxruntime, ORT_LOGGING_LEVEL_FATAL, type OrtEnv } from './onnxruntime.ts'

// Any library will do: its C runtime comes with it.
const library = loadLibrary(findOnnxruntimeLibrary())
const calloc = library.declare<[count: number, bytes: number], Pointer>(
  'void *calloc(size_t count, size_t bytes)',
)
const free = library.declare<[pointer: Pointer], void>('void free(void *pointer)')

describe.skipIf(process.platform === 'win32')('functions of a library', () => {
  it('are called, on the event loop and off it', async () => {
    const abs = library.declare<[value: number], number>('int abs(int value)')
    expect(abs(-3)).toBe(3)
    await expect(abs.async(-4)).resolves.toBe(4)
  })

  it('throw what their check throws, with the C name', async () => {
    const abs = library.declare<[value: number], number, number>('int abs(int value)', (result, api) => {
      if (result === 7) throw new RangeError(`${api} gave ${result}`)
      return result * 2
    })
    expect(abs(-3)).toBe(6)
    expect(() => abs(-7)).toThrow(new RangeError('abs gave 7'))
    await expect(abs.async(-7)).rejects.toThrow(new RangeError('abs gave 7'))
    await expect(abs.async(-3)).resolves.toBe(6)
  })

  it('fill out slots', async () => {
    const posix_memalign = library.declare<[slot: Out<Pointer>, alignment: number, bytes: number], number>(
      'int posix_memalign(_Out_ void **slot, size_t alignment, size_t bytes)',
    )
    const pointer = readOut<Pointer>((out) => posix_memalign(out, 4096, 8192))
    expect(pointer % 4096n).toBe(0n)
    free(pointer)
    const later = await readOutAsync<Pointer>(async (out) => {
      await posix_memalign.async(out, 64, 64)
    })
    expect(later % 64n).toBe(0n)
    free(later)
  })

  it('share memory through views', () => {
    const pointer = calloc(16, 1)
    const bytes = new Uint8Array(viewMemory(pointer, 16))
    bytes.set(Buffer.from('grüße'))
    expect(readText(pointer)).toBe('grüße')
    expect(new Uint8Array(viewMemory(pointer, 16))[0]).toBe('g'.codePointAt(0))
    free(pointer)
  })

  it('are missed aloud', () => {
    expect(() => library.declare('int no_such_function_here(int x)')).toThrow(/no_such_function_here/)
    expect(() => loadLibrary('/absent/library.so')).toThrow(/absent|cannot open/i)
  })
})

it('views memory piece by piece, the last one shorter', () => {
  const memory = Uint8Array.from({ length: 10 }, (_, i) => i).buffer
  const pieces = [...viewPieces(addressOf(memory), 10, 4)]
  expect(pieces.map((piece) => [...piece])).toEqual([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9],
  ])
})

describe('the ONNX Runtime table', () => {
  it('is the version its library says, and checks every status', () => {
    const api = loadOnnxruntime(findOnnxruntimeLibrary())
    expect(api.GetVersionString()).toMatch(/^1\.\d+\.\d+/)
    expect(loadOnnxruntime(findOnnxruntimeLibrary())).toBe(api)
    const env = readOut<OrtEnv>((out) => api.CreateEnv(ORT_LOGGING_LEVEL_FATAL, 'test', out))
    const info = readOut((out: Parameters<typeof api.CreateCpuMemoryInfo>[2]) =>
      api.CreateCpuMemoryInfo(0, 0, out),
    )
    const shape = BigInt64Array.of(1n, 4n)
    expect(() =>
      // 8 bytes for 4 values of 64 bits.
      readOut((out: Parameters<typeof api.CreateTensorWithDataAsOrtValue>[6]) =>
        api.CreateTensorWithDataAsOrtValue(info, new Int32Array(new ArrayBuffer(8)), 8, shape, 2, 7, out),
      ),
    ).toThrow(
      expect.objectContaining({
        code: 'ONNXRUNTIME_STATUS',
        details: expect.objectContaining({ api: 'CreateTensorWithDataAsOrtValue', status: 2 }) as object,
      }),
    )
    api.ReleaseMemoryInfo(info)
    api.ReleaseEnv(env)
  })
})
