import { open } from 'node:fs/promises'
import protobuf from 'protobufjs/light.js'
import { modelGraphField } from './proto.ts'

/** What writeOnnxModel puts before the graph lies within this. */
const headBytes = 1 << 16
const metadataField = 14

/** The metadata_props that stand before the graph of an ONNX file, as writeOnnxModel writes them; undefined when there is
 * no such file or it is none of ours. */
export async function readOnnxMetadata(path: string): Promise<Readonly<Record<string, string>> | undefined> {
  try {
    const file = await open(path)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0)
      return parseMetadata(buffer.subarray(0, bytesRead))
    } finally {
      await file.close()
    }
  } catch {
    return undefined
  }
}

/** @throws {RangeError} when the bytes end before the graph begins */
function parseMetadata(bytes: Uint8Array): Record<string, string> {
  const reader = protobuf.Reader.create(bytes)
  const metadata: Record<string, string> = {}
  for (;;) {
    const tag = reader.uint32()
    const field = tag >>> 3
    if (field === modelGraphField) return metadata
    if (field === metadataField) {
      const { key, value } = parseEntry(reader.bytes())
      metadata[key] = value
    } else reader.skipType(tag & 7)
  }
}

/** StringStringEntryProto: key 1, value 2. */
function parseEntry(bytes: Uint8Array): { key: string; value: string } {
  const reader = protobuf.Reader.create(bytes)
  const texts: string[] = []
  while (reader.pos < reader.len) {
    const field = reader.uint32() >>> 3
    texts[field] = reader.string()
  }
  return { key: texts[1] ?? '', value: texts[2] ?? '' }
}
