import { describe, expect, it } from 'vitest'
import { matchPorts, type OutputPort } from './model-ports.ts'

const int64 = (name: string) => ({ name, elementBytes: 8 })
const float = (name: string, ...shape: number[]): OutputPort => ({ name, shape, isFloat32: true })
const inputs = [int64('input_ids'), int64('attention_mask')]
const hidden = float('last_hidden_state', -1, -1, 384)

describe('matchPorts', () => {
  it('knows the inputs by name, in the model’s order', () => {
    const given = [
      int64('attention_mask'),
      int64('position_ids'),
      int64('input_ids'),
      int64('token_type_ids'),
    ]
    expect(matchPorts('onnx', given, [hidden], 384).inputs.map(({ role }) => role)).toEqual([
      'attentionMask',
      'positionIds',
      'inputIds',
      'tokenTypeIds',
    ])
  })

  it.each([
    ['last_hidden_state before others', [float('x', -1, -1, 8), hidden], 1, 'tokens', 384],
    [
      'token_embeddings before sentence_embedding',
      [float('sentence_embedding', -1, 64), float('token_embeddings', -1, -1, 64)],
      1,
      'tokens',
      64,
    ],
    ['the first of rank 3', [float('pooler_output', -1, 8), float('output_0', -1, -1, 8)], 1, 'tokens', 8],
    ['sentence_embedding alone', [float('y', -1, 9), float('sentence_embedding', -1, 64)], 1, 'pooled', 64],
    [
      'the hidden size where the model leaves it open',
      [float('last_hidden_state', -1, -1, -1)],
      0,
      'tokens',
      77,
    ],
  ] as const)('takes %s', (_, outputs, index, kind, dimensions) => {
    expect(matchPorts('onnx', inputs, outputs, 77).output).toMatchObject({ index, kind, dimensions })
  })

  it.each([
    ['an unknown input', [...inputs, int64('past_key_values.0.key')], [hidden], 'past_key_values.0.key'],
    ['no ids', [int64('attention_mask')], [hidden], 'input_ids'],
    ['ids of another type', [{ name: 'input_ids', elementBytes: 2 }], [hidden], 'int32 or int64'],
    ['no usable output', inputs, [float('logits', -1, 2)], 'logits'],
    ['half-precision output', inputs, [{ ...hidden, isFloat32: false }], 'not float32'],
  ])('refuses %s', (_, givenInputs, outputs, words) => {
    expect(() => matchPorts('onnx', givenInputs, outputs, 384)).toThrow(
      expect.objectContaining({
        code: 'ENGINE_UNAVAILABLE',
        message: expect.stringContaining(words) as string,
      }),
    )
  })
})
