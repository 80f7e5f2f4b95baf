import { type Static, Type } from 'typebox'
import { Check } from 'typebox/value'
import { EmbedError, toReason } from '../errors.ts'

/** Bits an element; the types of the safetensors format, version 0.6. */
const bitsByDtype = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const
export type SafetensorsDtype = keyof typeof bitsByDtype

/** Where a tensor lies. `begin` and `end` are bytes from the start of the file. */
export interface TensorPlace {
  readonly dtype: SafetensorsDtype
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

const entrySchema = Type.Object({
  dtype: Type.String(),
  shape: Type.Array(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  data_offsets: Type.Tuple([
    Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  ]),
})

/** The bound of the reference implementation. */
const maxHeaderBytes = 100_000_000
/** The length before the header: u64, little-endian. */
export const lengthBytes = 8

/** @returns the length of the header, without the eight bytes that state it
 * @throws {EmbedError} MODEL_FILE_CORRUPT */
export function parseHeaderLength(file: string, start: Uint8Array, fileBytes: number): number {
  if (start.length < lengthBytes) throw corrupt(file, `it has ${fileBytes} bytes, too few for a header`)
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true)
  if (length > BigInt(Math.min(maxHeaderBytes, fileBytes - lengthBytes))) {
    throw corrupt(file, `its header claims ${length} bytes, the file has ${fileBytes}`)
  }
  return Number(length)
}

/** Checks every entry: type known, size as the shape says, inside the file, none over another.
 * @param header the JSON text   @throws {EmbedError} MODEL_FILE_CORRUPT */
export function parseHeader(file: string, header: Uint8Array, fileBytes: number): Map<string, TensorPlace> {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header))
  } catch (error) {
    throw corrupt(file, `its header is not JSON (${toReason(error)})`, error)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw corrupt(file, 'its header is not a JSON object')
  }
  const dataStart = lengthBytes + header.length
  const places = new Map<string, TensorPlace>()
  for (const [name, entry] of Object.entries(json)) {
    if (name === '__metadata__') continue
    if (!Check(entrySchema, entry)) throw corrupt(file, `the header's entry of tensor '${name}' is malformed`)
    places.set(name, toPlace(file, name, entry, dataStart, fileBytes))
  }
  const inOrder = [...places].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)
  for (const [i, [name, place]] of inOrder.entries()) {
    const previous = inOrder[i - 1]
    if (previous !== undefined && place.begin < previous[1].end) {
      throw corrupt(file, `tensors '${previous[0]}' and '${name}' overlap`)
    }
  }
  return places
}

function toPlace(
  file: string,
  name: string,
  entry: Static<typeof entrySchema>,
  dataStart: number,
  fileBytes: number,
): TensorPlace {
  const { dtype, shape } = entry
  const [from, to] = entry.data_offsets
  if (!isDtype(dtype)) throw corrupt(file, `tensor '${name}' has the unknown type '${dtype}'`)
  if (from > to || dataStart + to > fileBytes) {
    const reason = `tensor '${name}' lies at bytes ${from} to ${to}, the file holds ${fileBytes - dataStart}`
    throw corrupt(file, reason)
  }
  const bits = shape.reduce((product, dimension) => product * dimension, bitsByDtype[dtype])
  if (bits !== (to - from) * 8) {
    const reason = `tensor '${name}' (${dtype} [${shape.join(', ')}]) has ${to - from} bytes, its shape needs ${bits / 8}`
    throw corrupt(file, reason)
  }
  return { dtype, shape, begin: dataStart + from, end: dataStart + to }
}

function isDtype(dtype: string): dtype is SafetensorsDtype {
  return Object.hasOwn(bitsByDtype, dtype)
}

function corrupt(file: string, reason: string, cause?: unknown): EmbedError {
  return new EmbedError('MODEL_FILE_CORRUPT', { file, reason }, { cause })
}
