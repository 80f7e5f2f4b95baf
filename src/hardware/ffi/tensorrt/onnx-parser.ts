/** Reads an ONNX file into a network. */
import { EmbedError } from '../../../errors.ts'
import type { Pointer } from '../library.ts'
import { severities } from './logger.ts'
import type { destructorTable } from './method-table.ts'
import type { Network } from './network.ts'
import { TensorrtObject } from './object.ts'

/** Holds the weights of what it read: it must live until the engine is built. */
export class OnnxParser extends TensorrtObject {
  readonly #network: Network

  /** @throws {EmbedError} LIBRARY_NOT_FOUND, TENSORRT_FAILED */
  constructor(network: Network) {
    const { tensorrt } = network
    super(tensorrt, 'an ONNX parser', tensorrt.createOnnxParser(network.handle), network)
    this.#network = network
  }

  /** @param path external data is looked for beside it
   * @throws {EmbedError} ONNX_NOT_PARSED with every error, its node and operator */
  async parseFile(path: string): Promise<void> {
    const isParsed = await this.callAsync(
      'IParser::parseFromFile',
      [this.#network],
      path,
      severities.indexOf('warning'),
    )
    if (isParsed) return
    const found = this.#readErrors()
    const errors = found.length > 0 ? found : this.tensorrt.logger.takeErrors()
    throw new EmbedError('ONNX_NOT_PARSED', { path, errors })
  }

  #readErrors(): string[] {
    return Array.from({ length: this.call('IParser::getNbErrors') }, (_, index) =>
      this.#describe(this.callChecked('IParser::getError', index)),
    )
  }

  #describe(error: Pointer): string {
    const { tensorrt } = this
    const operator = tensorrt.call(error, 'IParserError::nodeOperator') ?? ''
    const name = tensorrt.call(error, 'IParserError::nodeName') ?? ''
    const node = tensorrt.call(error, 'IParserError::node')
    // An error of the file as a whole has no node.
    const where = operator === '' ? '' : `node ${node} '${name}' (${operator}): `
    const words = tensorrt.call(error, 'IParserError::desc') ?? 'no description'
    return `${where}${words} [code ${tensorrt.call(error, 'IParserError::code')}]`
  }

  protected override get destructor(): keyof typeof destructorTable {
    return 'IParser'
  }
}
