import { expect, it } from 'vitest'
import { describeTensorrt } from '../../../../test/fakes/describe-tensorrt.ts'
import { failureOf } from '../../../../test/fakes/failure.ts'
import { Builder } from './builder.ts'
import { OnnxParser } from './onnx-parser.ts'

describeTensorrt('the parser', (made) => {
  it('names the node that the parser does not know', async () => {
    const { fake, tensorrt } = made()
    using builder = new Builder(tensorrt)
    using network = builder.createNetwork()
    using parser = new OnnxParser(network)
    fake.setMode('parse_errors', 2)
    const error = await failureOf(parser.parseFile('/m.onnx'))
    expect([error.code, error.details]).toEqual([
      'ONNX_NOT_PARSED',
      {
        path: '/m.onnx',
        errors: [
          "node 17 '/encoder/NonZeroish_3' (NonZeroish): no importer registered for op: NonZeroish [code 8]",
          'Failed to open file [code 7]',
        ],
      },
    ])
    fake.setMode('parse_errors', 0)
    fake.setMode('fail_create', 1)
    expect((await failureOf(parser.parseFile('/m.onnx'))).details).toMatchObject({
      errors: ['ModelImporter: could not parse the file'],
    })
  })
})
