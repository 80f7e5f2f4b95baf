/** The base of every owner of a native object: its handle until it is freed, and freed once. */
import { EmbedError } from '../errors.ts'
import { ResourceScope } from './resource-scope.ts'

export abstract class NativeResource<Handle> implements Disposable {
  /** For messages, e.g. "the device buffer 'logits'". */
  readonly resource: string
  /** What cannot outlive this object; freed before it. */
  readonly children = new ResourceScope()
  readonly #scope: ResourceScope
  #handle: Handle | undefined

  /** @param scope the parent's `children` */
  constructor(resource: string, handle: Handle, scope: ResourceScope) {
    this.resource = resource
    this.#handle = handle
    this.#scope = scope
    scope.adopt(this)
  }

  /** @throws {EmbedError} USED_AFTER_FREE */
  get handle(): Handle {
    if (this.#handle === undefined) throw new EmbedError('USED_AFTER_FREE', { resource: this.resource })
    return this.#handle
  }

  get isFreed(): boolean {
    return this.#handle === undefined
  }

  /** @throws {EmbedError} USED_AFTER_FREE */
  protected checkAlive(): void {
    void this.handle
  }

  /** Frees the children, then the object; to do so again changes nothing. */
  [Symbol.dispose](): void {
    const handle = this.#handle
    if (handle === undefined) return
    try {
      this.children[Symbol.dispose]()
    } finally {
      // First, so that a free which fails is not tried again.
      this.#handle = undefined
      this.#scope.release(this)
      this.free(handle)
    }
  }

  protected abstract free(handle: Handle): void
}
