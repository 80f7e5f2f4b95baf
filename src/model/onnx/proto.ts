import protobuf from 'protobufjs/light.js'

/** The part of onnx.proto that is written here; field numbers from onnx/onnx.proto, IR version 9.
 * Repeated numbers are unpacked there (proto2), as they are here. */
const root = protobuf.Root.fromJSON({
  nested: {
    ModelProto: {
      fields: {
        irVersion: { type: 'int64', id: 1 },
        producerName: { type: 'string', id: 2 },
        opsetImport: { rule: 'repeated', type: 'OperatorSetIdProto', id: 8 },
        metadataProps: { rule: 'repeated', type: 'StringStringEntryProto', id: 14 },
      },
    },
    OperatorSetIdProto: { fields: { domain: { type: 'string', id: 1 }, version: { type: 'int64', id: 2 } } },
    GraphProto: {
      fields: {
        node: { rule: 'repeated', type: 'NodeProto', id: 1 },
        name: { type: 'string', id: 2 },
        input: { rule: 'repeated', type: 'ValueInfoProto', id: 11 },
        output: { rule: 'repeated', type: 'ValueInfoProto', id: 12 },
      },
    },
    NodeProto: {
      fields: {
        input: { rule: 'repeated', type: 'string', id: 1 },
        output: { rule: 'repeated', type: 'string', id: 2 },
        name: { type: 'string', id: 3 },
        opType: { type: 'string', id: 4 },
        attribute: { rule: 'repeated', type: 'AttributeProto', id: 5 },
      },
    },
    AttributeProto: {
      fields: {
        name: { type: 'string', id: 1 },
        f: { type: 'float', id: 2 },
        i: { type: 'int64', id: 3 },
        s: { type: 'bytes', id: 4 },
        ints: { rule: 'repeated', type: 'int64', id: 8, options: { packed: false } },
        type: { type: 'int32', id: 20 },
      },
    },
    TensorProto: {
      fields: {
        dims: { rule: 'repeated', type: 'int64', id: 1, options: { packed: false } },
        dataType: { type: 'int32', id: 2 },
        name: { type: 'string', id: 8 },
        externalData: { rule: 'repeated', type: 'StringStringEntryProto', id: 13 },
        dataLocation: { type: 'int32', id: 14 },
      },
    },
    StringStringEntryProto: { fields: { key: { type: 'string', id: 1 }, value: { type: 'string', id: 2 } } },
    ValueInfoProto: { fields: { name: { type: 'string', id: 1 }, type: { type: 'TypeProto', id: 2 } } },
    TypeProto: { fields: { tensorType: { type: 'TensorTypeProto', id: 1 } } },
    TensorTypeProto: {
      fields: { elemType: { type: 'int32', id: 1 }, shape: { type: 'TensorShapeProto', id: 2 } },
    },
    TensorShapeProto: { fields: { dim: { rule: 'repeated', type: 'DimensionProto', id: 1 } } },
    DimensionProto: { fields: { dimValue: { type: 'int64', id: 1 }, dimParam: { type: 'string', id: 2 } } },
  },
})

/** Field numbers of the parts that model-writer.ts frames by itself, so that weights are never held twice. */
export const modelGraphField = 7
export const graphInitializerField = 5
export const tensorRawDataField = 9

/** TensorProto.DataType */
export const dataTypes = {
  float: 1,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
  float8e4m3fn: 17,
} as const
export type DataType = keyof typeof dataTypes

/** AttributeProto.AttributeType */
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const

export type Attribute =
  | { readonly float: number }
  | { readonly int: number }
  | { readonly string: string }
  | { readonly ints: readonly number[] }

export interface OnnxNode {
  readonly name: string
  readonly opType: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
}

/** An input or output; a string is the name of a dimension that varies. */
export interface OnnxValue {
  readonly name: string
  readonly type: DataType
  readonly shape: readonly (number | string)[]
}

/** ModelProto without its graph. */
export function encodeModelHead(head: {
  irVersion: number
  opsetVersion: number
  producerName: string
  metadata: Readonly<Record<string, string>>
}): Uint8Array {
  const { irVersion, opsetVersion, producerName, metadata } = head
  return encode('ModelProto', {
    irVersion,
    producerName,
    opsetImport: [{ domain: '', version: opsetVersion }],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  })
}

/** GraphProto without its initializers. */
export function encodeGraphHead(graph: {
  name: string
  nodes: readonly OnnxNode[]
  inputs: readonly OnnxValue[]
  outputs: readonly OnnxValue[]
}): Uint8Array {
  return encode('GraphProto', {
    node: graph.nodes.map(toNode),
    name: graph.name,
    input: graph.inputs.map(toValueInfo),
    output: graph.outputs.map(toValueInfo),
  })
}

/** TensorProto without its raw_data; `external` says where the data is when it is in another file. */
export function encodeTensorHead(tensor: {
  name: string
  type: DataType
  shape: readonly number[]
  external?: { location: string; offset: number; length: number } | undefined
}): Uint8Array {
  const { external } = tensor
  return encode('TensorProto', {
    dims: tensor.shape,
    dataType: dataTypes[tensor.type],
    name: tensor.name,
    ...(external && {
      externalData: Object.entries(external).map(([key, value]) => ({ key, value: String(value) })),
      // TensorProto.DataLocation.EXTERNAL
      dataLocation: 1,
    }),
  })
}

/** What stands before the bytes of a length-delimited field. */
export function encodeFieldHead(field: number, length: number): Uint8Array {
  const lengthDelimited = 2
  return protobuf.Writer.create()
    .uint32((field << 3) | lengthDelimited)
    .uint64(length)
    .finish()
}

function toNode(node: OnnxNode): object {
  return {
    input: node.inputs,
    output: node.outputs,
    name: node.name,
    opType: node.opType,
    attribute: Object.entries(node.attributes).map(toAttribute),
  }
}

function toAttribute([name, value]: readonly [string, Attribute]): object {
  if ('float' in value) return { name, f: value.float, type: attributeTypes.float }
  if ('int' in value) return { name, i: value.int, type: attributeTypes.int }
  if ('ints' in value) return { name, ints: value.ints, type: attributeTypes.ints }
  return { name, s: new TextEncoder().encode(value.string), type: attributeTypes.string }
}

function toValueInfo({ name, type, shape }: OnnxValue): object {
  const dim = shape.map((size) => (typeof size === 'string' ? { dimParam: size } : { dimValue: size }))
  return { name, type: { tensorType: { elemType: dataTypes[type], shape: { dim } } } }
}

function encode(message: string, value: object): Uint8Array {
  return root.lookupType(message).encode(value).finish()
}
