/** The base of TensorRT's objects: methods by name, freed once, children first, never while a call on them runs. */
import { EmbedError } from '../../../errors.ts'
import { NativeResource } from '../../native-resource.ts'
import type { Pointer } from '../library.ts'
import type { destructorTable, MethodName, MethodResult } from './method-table.ts'
import type { Argument, Tensorrt } from './tensorrt.ts'

/** Memory that another thread reads must not be collected meanwhile. */
const argumentsInUse = new Set<readonly Argument[]>()

export abstract class TensorrtObject extends NativeResource<Pointer> {
  readonly tensorrt: Tensorrt
  readonly #parent: TensorrtObject | undefined
  #running = 0

  /** @param parent what must outlive it; without one it belongs to TensorRT itself */
  constructor(tensorrt: Tensorrt, resource: string, handle: Pointer, parent?: TensorrtObject) {
    super(resource, handle, parent?.children ?? tensorrt.children)
    this.tensorrt = tensorrt
    this.#parent = parent
  }

  /** @throws {EmbedError} INTERNAL while an asynchronous call uses it or a child of it */
  override [Symbol.dispose](): void {
    if (this.#running > 0) {
      throw new EmbedError('INTERNAL', { reason: `${this.resource} was freed while it works` })
    }
    super[Symbol.dispose]()
  }

  protected call<Name extends MethodName>(method: Name, ...args: readonly Argument[]): MethodResult<Name> {
    return this.tensorrt.call(this.handle, method, args)
  }

  /** call, and a failure when the method gives null or false. @throws {EmbedError} TENSORRT_FAILED */
  protected callChecked<Name extends MethodName>(
    method: Name,
    ...args: readonly Argument[]
  ): Exclude<MethodResult<Name>, null | false> {
    const { handle } = this
    this.tensorrt.logger.takeErrors()
    return this.tensorrt.need(method, this.tensorrt.call(handle, method, args))
  }

  /** call on another thread, failure or not. @param uses objects that the call uses beside this one */
  protected async callAsync<Name extends MethodName>(
    method: Name,
    uses: readonly TensorrtObject[],
    ...args: readonly Argument[]
  ): Promise<MethodResult<Name>> {
    const { handle } = this
    this.tensorrt.logger.takeErrors()
    const held = [this, ...uses].flatMap((object) => object.#withParents())
    for (const object of held) object.#running++
    argumentsInUse.add(args)
    try {
      return await this.tensorrt.callAsync(handle, method, args)
    } finally {
      argumentsInUse.delete(args)
      for (const object of held) object.#running--
    }
  }

  protected override free(handle: Pointer): void {
    this.tensorrt.destroy(handle, this.destructor)
  }

  protected get destructor(): keyof typeof destructorTable {
    return 'object'
  }

  #withParents(): TensorrtObject[] {
    const parent = this.#parent
    return parent === undefined ? [this] : [this, ...parent.#withParents()]
  }
}
