/** Finds the linear layers of an ONNX graph: the products of something computed with weights. */
import { readFile } from 'node:fs/promises'
import protobuf from 'protobufjs/light.js'
import { EmbedError, toReason } from '../../errors.ts'

/** The part of onnx.proto that this takes to find them: weights are skipped over, not decoded. */
const root = protobuf.Root.fromJSON({
  nested: {
    ModelProto: { fields: { graph: { type: 'GraphProto', id: 7 } } },
    GraphProto: {
      fields: {
        node: { rule: 'repeated', type: 'NodeProto', id: 1 },
        initializer: { rule: 'repeated', type: 'TensorProto', id: 5 },
      },
    },
    NodeProto: {
      fields: {
        input: { rule: 'repeated', type: 'string', id: 1 },
        output: { rule: 'repeated', type: 'string', id: 2 },
        name: { type: 'string', id: 3 },
        opType: { type: 'string', id: 4 },
      },
    },
    TensorProto: {
      fields: { dims: { rule: 'repeated', type: 'int64', id: 1 }, name: { type: 'string', id: 8 } },
    },
  },
})
const ModelProto = root.lookupType('ModelProto')

interface OnnxGraph {
  readonly node: readonly {
    readonly input: readonly string[]
    readonly output: readonly string[]
    readonly name: string
    readonly opType: string
  }[]
  readonly initializer: readonly { readonly name: string; readonly dims: readonly number[] }[]
}

/** A weight behind one of these is still a weight. */
const passing = new Set([
  'QuantizeLinear',
  'DequantizeLinear',
  'Cast',
  'Transpose',
  'Reshape',
  'Identity',
  'Constant',
])

/** Names of the MatMul and Gemm nodes that multiply by weights, in the order of the graph.
 * @throws {EmbedError} FILE_UNREADABLE, MODEL_FILE_CORRUPT */
export async function readLinearNodes(path: string): Promise<string[]> {
  const { node: nodes, initializer } = decode(path, await read(path))
  const weights = new Set(initializer.filter(({ dims }) => isMatrix(dims)).map(({ name }) => name))
  const linear: string[] = []
  for (const { opType, name, input, output } of nodes) {
    if (passing.has(opType) && weights.has(input[0] ?? '')) weights.add(output[0]!)
    const isProduct = opType === 'MatMul' || opType === 'Gemm'
    if (isProduct && input.slice(0, 2).some((each) => weights.has(each))) linear.push(name)
  }
  return linear
}

function isMatrix(dims: readonly number[]): boolean {
  return dims.length >= 2 && dims.slice(-2).every((size) => size > 1)
}

async function read(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  }
}

function decode(path: string, bytes: Uint8Array): OnnxGraph {
  try {
    const model = ModelProto.toObject(ModelProto.decode(bytes), {
      longs: Number,
      arrays: true,
      defaults: true,
    })
    return model['graph'] as OnnxGraph
  } catch (cause) {
    throw new EmbedError('MODEL_FILE_CORRUPT', { file: path, reason: toReason(cause) }, { cause })
  }
}
