import { basename } from 'node:path'
import { writeAtomically, writeFully } from './atomic-file.ts'
import type { Initializer, OnnxGraph } from './graph-builder.ts'
import {
  encodeFieldHead,
  encodeGraphHead,
  encodeModelHead,
  encodeTensorHead,
  graphInitializerField,
  modelGraphField,
  tensorRawDataField,
} from './proto.ts'

/** Protobuf ends at 2 GiB; the rest is left for nodes and names. */
const maxInlineBytes = 2_000_000_000
/** Scalars and shapes stay inline: runtimes read them while they build the graph. */
const minExternalBytes = 1024
/** So that a runtime can map the file; the value that ONNX's own writer uses. */
const externalAlignmentBytes = 4096

export interface OnnxVersions {
  readonly irVersion: number
  readonly opsetVersion: number
}

interface Placed {
  readonly initializer: Initializer
  readonly head: Uint8Array
  /** Where it lies in the data file; undefined when it is inline. */
  readonly offset: number | undefined
}

/** Writes a model, one weight in memory at a time. Equal graphs give equal bytes. Weights of 2 GB or more in all go to
 * `<outPath>.data`, which takes its name before the model does.
 * @throws {EmbedError} NO_SPACE, and what loading a weight throws */
export async function writeOnnxModel(
  graph: OnnxGraph,
  versions: OnnxVersions,
  outPath: string,
  options: { maxInlineBytes?: number | undefined } = {},
): Promise<void> {
  const totalBytes = graph.initializers.reduce((sum, { byteLength }) => sum + byteLength, 0)
  const external = totalBytes >= (options.maxInlineBytes ?? maxInlineBytes)
  const dataPath = `${outPath}.data`
  const placed = placeInitializers(graph.initializers, external ? basename(dataPath) : undefined)
  const inData = placed.filter(({ offset }) => offset !== undefined)
  if (inData.length > 0) {
    const last = inData.at(-1)!
    await writeAtomically(dataPath, last.offset! + last.initializer.byteLength, async (file) => {
      let position = 0
      for (const { initializer, offset } of inData) {
        await writeFully(file, new Uint8Array(offset! - position))
        await writeFully(file, await loadChecked(initializer))
        position = offset! + initializer.byteLength
      }
    })
  }
  const modelHead = encodeModelHead({ ...versions, producerName: 'akidb-embedding' })
  const graphHead = encodeGraphHead(graph)
  const graphBytes = placed.reduce((sum, entry) => sum + framedBytes(entry), graphHead.length)
  const graphField = encodeFieldHead(modelGraphField, graphBytes)
  const fileBytes = modelHead.length + graphField.length + graphBytes
  await writeAtomically(outPath, fileBytes, async (file) => {
    await writeFully(file, Buffer.concat([modelHead, graphField, graphHead]))
    for (const { initializer, head, offset } of placed) {
      const inline = offset === undefined
      const rawField = inline ? rawDataHead(initializer) : new Uint8Array(0)
      const tensorBytes = head.length + rawField.length + (inline ? initializer.byteLength : 0)
      await writeFully(
        file,
        Buffer.concat([encodeFieldHead(graphInitializerField, tensorBytes), head, rawField]),
      )
      if (inline) await writeFully(file, await loadChecked(initializer))
    }
  })
}

function placeInitializers(
  initializers: readonly Initializer[],
  location: string | undefined,
): readonly Placed[] {
  let end = 0
  return initializers.map((initializer) => {
    const { name, type, shape, byteLength } = initializer
    if (location === undefined || byteLength < minExternalBytes) {
      return { initializer, head: encodeTensorHead({ name, type, shape }), offset: undefined }
    }
    const offset = Math.ceil(end / externalAlignmentBytes) * externalAlignmentBytes
    end = offset + byteLength
    const external = { location, offset, length: byteLength }
    return { initializer, head: encodeTensorHead({ name, type, shape, external }), offset }
  })
}

function framedBytes({ initializer, head, offset }: Placed): number {
  const raw = offset === undefined ? rawDataHead(initializer).length + initializer.byteLength : 0
  return encodeFieldHead(graphInitializerField, head.length + raw).length + head.length + raw
}

function rawDataHead({ byteLength }: Initializer): Uint8Array {
  return encodeFieldHead(tensorRawDataField, byteLength)
}

async function loadChecked(initializer: Initializer): Promise<Uint8Array> {
  const bytes = await initializer.load()
  if (bytes.length !== initializer.byteLength) {
    throw new RangeError(
      `${initializer.name} gave ${bytes.length} bytes, ${initializer.byteLength} were announced`,
    )
  }
  return bytes
}
