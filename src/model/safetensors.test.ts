import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { toSafetensors, writeSafetensors } from '../../test/fixtures/safetensors-writer.ts'
import { EmbedError } from '../errors.ts'
import { openSafetensors } from './safetensors.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'))
})
afterAll(() => rm(folder, { recursive: true }))

const bytesOf = (array: Float32Array | Uint16Array | BigInt64Array) =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

const sample = [
  { name: 'a', dtype: 'F32', shape: [2, 2], bytes: bytesOf(Float32Array.of(1, -2.5, 3e-9, 4e30)) },
  { name: 'b', dtype: 'BF16', shape: [3], bytes: bytesOf(Uint16Array.of(0x3f80, 0xc020, 0x0001)) },
  { name: 'c', dtype: 'I64', shape: [1], bytes: bytesOf(BigInt64Array.of(-7n)) },
  { name: 'empty', dtype: 'F32', shape: [0, 4], bytes: new Uint8Array(0) },
]

async function writeRaw(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, bytes)
  return path
}

function withHeader(header: string, data: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(header)))
  return Buffer.concat([length, Buffer.from(header), data])
}

describe('openSafetensors', () => {
  test('names, types, shapes and bytes come back as written', async () => {
    const path = join(folder, 'plain.safetensors')
    await writeSafetensors(path, sample)
    await using tensors = await openSafetensors([path])
    expect([...tensors.names()].sort()).toEqual(['a', 'b', 'c', 'empty'])
    expect(tensors.tensor('a')).toEqual({ dtype: 'F32', shape: [2, 2], byteLength: 16, file: path })
    expect(tensors.tensor('none')).toBeUndefined()
    expect(await tensors.readBytes('c')).toEqual(sample[2]!.bytes)
    expect(await tensors.readFloat32('a')).toEqual(Float32Array.of(1, -2.5, 3e-9, 4e30))
    expect(await tensors.readFloat32('b')).toEqual(Float32Array.of(1, -2.5, 2 ** -133))
    expect(await tensors.readFloat32('empty')).toEqual(new Float32Array(0))
  })

  test('F16 is widened exactly: normal, subnormal, infinite, NaN, negative zero', async () => {
    const halves = Uint16Array.of(0x3c00, 0xc500, 0x7bff, 0x0001, 0x8400, 0x7c00, 0xfc00, 0x8000, 0x7e00)
    const path = join(folder, 'half.safetensors')
    await writeSafetensors(path, [{ name: 'h', dtype: 'F16', shape: [9], bytes: bytesOf(halves) }])
    await using tensors = await openSafetensors([path])
    expect([...(await tensors.readFloat32('h'))]).toEqual([
      1,
      -5,
      65504,
      2 ** -24,
      -(2 ** -14),
      Infinity,
      -Infinity,
      -0,
      NaN,
    ])
  })

  test('shards are one model, and a name in two of them is refused', async () => {
    const one = join(folder, 'one.safetensors')
    const two = join(folder, 'two.safetensors')
    await writeSafetensors(one, sample.slice(0, 1))
    await writeSafetensors(two, sample.slice(1))
    await using tensors = await openSafetensors([one, two])
    expect(tensors.tensor('c')?.file).toBe(two)
    expect(await tensors.readBytes('c')).toEqual(sample[2]!.bytes)
    await expect(openSafetensors([one, two, one])).rejects.toMatchObject({
      code: 'MODEL_FILE_CORRUPT',
      message: expect.stringContaining("'a'"),
    })
  })

  test('the files are closed on disposal', async () => {
    const path = join(folder, 'closed.safetensors')
    await writeSafetensors(path, sample)
    const tensors = await openSafetensors([path])
    await tensors[Symbol.asyncDispose]()
    await tensors[Symbol.asyncDispose]()
    await expect(tensors.readBytes('a')).rejects.toMatchObject({ code: 'FILE_UNREADABLE' })
  })

  test('integers are no floats', async () => {
    const path = join(folder, 'integers.safetensors')
    await writeSafetensors(path, sample)
    await using tensors = await openSafetensors([path])
    await expect(tensors.readFloat32('c')).rejects.toMatchObject({ code: 'MODEL_CONFIG_INVALID' })
    await expect(tensors.readFloat32('d')).rejects.toMatchObject({ code: 'MODEL_FILE_CORRUPT' })
  })

  test('a file that shrinks after it was opened is told', async () => {
    const path = join(folder, 'shrinks.safetensors')
    await writeSafetensors(path, sample)
    await using tensors = await openSafetensors([path])
    await truncate(path, 100)
    await expect(tensors.readBytes('c')).rejects.toMatchObject({ code: 'MODEL_FILE_CORRUPT' })
  })

  test('a missing file is unreadable', async () => {
    await expect(openSafetensors([join(folder, 'none')])).rejects.toMatchObject({ code: 'FILE_UNREADABLE' })
  })

  const eight = new Uint8Array(8)
  test.each([
    ['shorter than the length', Buffer.from('abc')],
    ['a header longer than the file', withHeader('{}', eight).subarray(0, 9)],
    ['a huge header length', Buffer.concat([Buffer.alloc(8, 0xff), eight])],
    ['a header that is not JSON', withHeader('{"a"', eight)],
    ['a header that is not UTF-8', Buffer.concat([withHeader('xx', eight).fill(0xff, 8, 10)])],
    ['a header that is a list', withHeader('[]', eight)],
    ['an entry without offsets', withHeader('{"a":{"dtype":"F32","shape":[2]}}', eight)],
    ['an unknown type', withHeader('{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}', eight)],
    [
      'a type of the prototype',
      withHeader('{"a":{"dtype":"toString","shape":[2],"data_offsets":[0,8]}}', eight),
    ],
    ['offsets past the end', withHeader('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}', eight)],
    ['offsets that go back', withHeader('{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', eight)],
    ['fractional offsets', withHeader('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0.5,1.5]}}', eight)],
    ['a shape of another size', withHeader('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', eight)],
    [
      'overlapping tensors',
      withHeader(
        '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}',
        eight,
      ),
    ],
  ])('%s is refused', async (_, bytes) => {
    const path = await writeRaw('bad.safetensors', bytes)
    const error = await openSafetensors([path]).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(EmbedError)
    expect(error).toMatchObject({ code: 'MODEL_FILE_CORRUPT', details: { file: path } })
  })

  test('random damage gives the coded error or tensors that can be read, never anything else', async () => {
    const whole = toSafetensors(sample)
    const damage = fc.record({
      edits: fc.array(fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
      length: fc.option(fc.nat(whole.length), { nil: whole.length }),
    })
    await fc.assert(
      fc.asyncProperty(damage, async ({ edits, length }) => {
        const bytes = Uint8Array.from(whole)
        for (const [place, value] of edits) bytes[place] = value
        const path = await writeRaw('damaged.safetensors', bytes.subarray(0, length))
        try {
          await using tensors = await openSafetensors([path])
          for (const name of tensors.names()) {
            expect((await tensors.readBytes(name)).length).toBe(tensors.tensor(name)?.byteLength)
          }
        } catch (error) {
          expect(error).toMatchObject({ name: 'EmbedError', code: 'MODEL_FILE_CORRUPT' })
        }
      }),
      { numRuns: 500 },
    )
  })
})
