import type { FileHandle } from 'node:fs/promises'
import { basename } from 'node:path'
import { EmbedError } from '../../errors.ts'
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

export interface WriteOptions {
  readonly maxInlineBytes?: number | undefined
  /** Goes into the file's metadata_props, with the name of the data file where there is one. */
  readonly metadata?: Readonly<Record<string, string>>
  /** Told after every piece. */
  readonly onProgress?: ((progress: WriteProgress) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface WriteProgress {
  readonly writtenBytes: number
  readonly totalBytes: number
}

/** Writes a model, a piece of one weight in memory at a time. Equal graphs give equal bytes. Weights of 2 GB or more in
 * all go to `<outPath>.data`; both files take their names when both are whole.
 * @throws {EmbedError} NO_SPACE, REQUEST_CANCELLED, and what loading a weight throws */
export async function writeOnnxModel(
  graph: OnnxGraph,
  versions: OnnxVersions,
  outPath: string,
  options: WriteOptions = {},
): Promise<void> {
  const totalBytes = graph.initializers.reduce((sum, { byteLength }) => sum + byteLength, 0)
  const external = totalBytes >= (options.maxInlineBytes ?? maxInlineBytes)
  const dataPath = `${outPath}.data`
  const placed = placeInitializers(graph.initializers, external ? basename(dataPath) : undefined)
  const inData = placed.filter(({ offset }) => offset !== undefined)
  const { metadata = {}, onProgress, signal } = options
  let writtenBytes = 0
  const writePieces = async (file: FileHandle, initializer: Initializer): Promise<void> => {
    let bytes = 0
    for await (const piece of initializer.load()) {
      if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
      await writeFully(file, piece)
      bytes += piece.length
      writtenBytes += piece.length
      onProgress?.({ writtenBytes, totalBytes })
    }
    if (bytes !== initializer.byteLength) {
      const { name, byteLength } = initializer
      throw new RangeError(`${name} gave ${bytes} bytes, ${byteLength} were announced`)
    }
  }
  const writeData = async (file: FileHandle): Promise<void> => {
    let position = 0
    for (const { initializer, offset } of inData) {
      await writeFully(file, new Uint8Array(offset! - position))
      await writePieces(file, initializer)
      position = offset! + initializer.byteLength
    }
  }
  const modelHead = encodeModelHead({
    ...versions,
    producerName: 'akidb-embedding',
    metadata: external ? { ...metadata, data: basename(dataPath) } : metadata,
  })
  const graphHead = encodeGraphHead(graph)
  const graphBytes = placed.reduce((sum, entry) => sum + framedBytes(entry), graphHead.length)
  const graphField = encodeFieldHead(modelGraphField, graphBytes)
  const writeModel = async (file: FileHandle): Promise<void> => {
    await writeFully(file, Buffer.concat([modelHead, graphField, graphHead]))
    for (const { initializer, head, offset } of placed) {
      const inline = offset === undefined
      const rawField = inline ? rawDataHead(initializer) : new Uint8Array(0)
      const tensorBytes = head.length + rawField.length + (inline ? initializer.byteLength : 0)
      await writeFully(
        file,
        Buffer.concat([encodeFieldHead(graphInitializerField, tensorBytes), head, rawField]),
      )
      if (inline) await writePieces(file, initializer)
    }
  }
  const modelBytes = modelHead.length + graphField.length + graphBytes
  const last = inData.at(-1)
  await writeAtomically([
    ...(last === undefined
      ? []
      : [{ path: dataPath, neededBytes: last.offset! + last.initializer.byteLength, write: writeData }]),
    { path: outPath, neededBytes: modelBytes, write: writeModel },
  ])
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
