import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import protobuf from 'protobufjs/light.js'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { readLinearNodes } from './linear-nodes.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'linear-'))
})
afterAll(() => rm(root, { recursive: true }))

/** onnx.proto, as far as this test writes it. */
const { nested } = {
  nested: {
    Model: { fields: { irVersion: { type: 'int64', id: 1 }, graph: { type: 'Graph', id: 7 } } },
    Graph: {
      fields: {
        node: { rule: 'repeated', type: 'Node', id: 1 },
        initializer: { rule: 'repeated', type: 'Tensor', id: 5 },
      },
    },
    Node: {
      fields: {
        input: { rule: 'repeated', type: 'string', id: 1 },
        output: { rule: 'repeated', type: 'string', id: 2 },
        name: { type: 'string', id: 3 },
        opType: { type: 'string', id: 4 },
      },
    },
    Tensor: {
      fields: {
        dims: { rule: 'repeated', type: 'int64', id: 1, options: { packed: false } },
        name: { type: 'string', id: 8 },
        rawData: { type: 'bytes', id: 9 },
      },
    },
  },
}
const Model = protobuf.Root.fromJSON({ nested }).lookupType('Model')

function node(opType: string, name: string, input: string[], output: string): object {
  return { opType, name, input, output: [output] }
}

function tensor(name: string, dims: number[]): object {
  return { name, dims, rawData: Buffer.alloc(64) }
}

it('finds products with weights, behind scales and casts too, and no others', async () => {
  const path = join(root, 'model.onnx')
  const graph = {
    initializer: [
      tensor('w', [4, 4]),
      tensor('q', [4, 4]),
      tensor('scale', []),
      tensor('frequencies', [1, 4, 1]),
    ],
    node: [
      node('MatMul', 'plain', ['x', 'w'], 'a'),
      node('DequantizeLinear', 'dq', ['q', 'scale'], 'q1'),
      node('Cast', 'cast', ['q1'], 'q2'),
      node('Gemm', 'scaled', ['a', 'q2'], 'b'),
      node('DequantizeLinear', 'activations', ['b8', 'scale'], 'b1'),
      node('MatMul', 'attention', ['b', 'b1'], 'c'),
      node('MatMul', 'rotary', ['frequencies', 'positions'], 'd'),
      node('Add', 'bias', ['c', 'w'], 'e'),
      node('MatMul', 'left', ['w', 'e'], 'f'),
    ],
  }
  await writeFile(path, Model.encode(Model.fromObject({ irVersion: 9, graph })).finish())
  expect(await readLinearNodes(path)).toEqual(['plain', 'scaled', 'left'])
})

it('refuses what is no ONNX file', async () => {
  const path = join(root, 'text.onnx')
  await writeFile(path, Buffer.from([0x3a, 0xff, 0xff]))
  expect((await failureOf(readLinearNodes(path))).code).toBe('MODEL_FILE_CORRUPT')
  expect((await failureOf(readLinearNodes(join(root, 'absent')))).code).toBe('FILE_UNREADABLE')
})
