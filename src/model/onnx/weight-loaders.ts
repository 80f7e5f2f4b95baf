/** How stored tensors become the bytes of a graph's weights; at most one tensor is in memory. */
import { convertElements, type Elements, type ElementType, elementBytes, toBytes } from './element-types.ts'
import type { StoredTensor } from './model-weights.ts'
import { transpose } from './row-major.ts'

/** Large tables (an embedding of 151,936 x 2,560 is 778 MB at bf16) pass in pieces. */
const pieceBytes = 32 << 20

const storedBytes = { F32: 4, F16: 2, BF16: 2 } as const

/** A tensor as it lies, in another type. */
export async function* loadAsStored(tensor: StoredTensor, type: ElementType): AsyncIterable<Uint8Array> {
  const byteLength = tensor.shape.reduce((product, size) => product * size, storedBytes[tensor.type])
  for (let begin = 0; begin < byteLength; begin += pieceBytes) {
    const piece = await tensor.read(begin, begin + pieceBytes)
    yield toBytes(convertElements(piece, tensor.type, type))
  }
}

/** Matrices [outputs, inputs], as torch stores them, laid side by side as [inputs, all outputs], as MatMul takes them.
 * @param scale what every weight is divided by */
export async function* loadForMatMul(
  tensors: readonly StoredTensor[],
  type: ElementType,
  scale = 1,
): AsyncIterable<Uint8Array> {
  const [, inputs] = tensors[0]!.shape as [number, number]
  const outputs = tensors.reduce((sum, { shape }) => sum + shape[0]!, 0)
  yield toBytes(transpose(await stack(tensors, type, scale), outputs, inputs))
}

/** Vectors end to end. */
export async function* loadJoined(
  tensors: readonly StoredTensor[],
  type: ElementType,
): AsyncIterable<Uint8Array> {
  for (const tensor of tensors) yield* loadAsStored(tensor, type)
}

async function stack(tensors: readonly StoredTensor[], type: ElementType, scale: number): Promise<Elements> {
  if (tensors.length === 1) return convertElements(await tensors[0]!.read(), tensors[0]!.type, type, scale)
  const count = tensors.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0)
  const all = new Uint8Array(count * elementBytes[type])
  let end = 0
  for (const tensor of tensors) {
    const bytes = toBytes(convertElements(await tensor.read(), tensor.type, type, scale))
    all.set(bytes, end)
    end += bytes.length
  }
  if (type === 'float') return new Float32Array(all.buffer)
  return type === 'float8e4m3fn' ? all : new Uint16Array(all.buffer)
}
