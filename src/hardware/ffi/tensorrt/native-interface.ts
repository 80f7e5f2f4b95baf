/** Objects that TensorRT calls back: a word in native memory that leads to a table of callbacks. */
import { addressOf, declareCallback, declareStruct, type Pointer } from '../library.ts'

declareStruct('nvinfer1_InterfaceInfo', { kind: 'void *', major: 'int32_t', minor: 'int32_t' })

/** Memory that TensorRT may read until the process ends. */
const keptForTensorrt: ArrayBuffer[] = []

/** A table of entries, kept until the process ends. */
export function makeTable(entries: readonly Pointer[]): Pointer {
  return keep(BigUint64Array.from(entries).buffer)
}

/** An object of the class with this table, for as long as the caller keeps the memory. */
export function makeObject(table: Pointer): { readonly pointer: Pointer; readonly memory: ArrayBuffer } {
  const memory = BigUint64Array.of(table).buffer
  return { pointer: addressOf(memory), memory }
}

/** An object kept until the process ends. */
export function makeLastingObject(table: Pointer): Pointer {
  return keep(makeObject(table).memory)
}

/** The two entries of a destructor. TensorRT frees nothing that it did not make. */
export function destructorEntries(): Pointer[] {
  const nothing = declareCallback('void Interface_destroy(void *self)', () => undefined)
  return [nothing, nothing]
}

/** What the table of a class that descends from IVersionedInterface begins with. */
export function versionedEntries(kind: string): Pointer[] {
  const kCPP = 0
  const name = keep(Uint8Array.from(Buffer.from(`${kind}\0`)).buffer)
  return [
    declareCallback('int32_t Interface_getAPILanguage(void *self)', () => kCPP),
    declareCallback('nvinfer1_InterfaceInfo Interface_getInterfaceInfo(void *self)', () => ({
      kind: name,
      major: 1,
      minor: 0,
    })),
    ...destructorEntries(),
  ]
}

function keep(memory: ArrayBuffer): Pointer {
  keptForTensorrt.push(memory)
  return addressOf(memory)
}
