/** Owns resources and frees them in reverse order of adoption: children before parents. */
export class ResourceScope implements Disposable {
  readonly #owned = new Set<Disposable>()

  get count(): number {
    return this.#owned.size
  }

  adopt<Resource extends Disposable>(resource: Resource): Resource {
    this.#owned.add(resource)
    return resource
  }

  /** Forgets a resource that freed itself. */
  release(resource: Disposable): void {
    this.#owned.delete(resource)
  }

  /** Frees all, also when one fails; then throws the first failure. */
  [Symbol.dispose](): void {
    const failures: unknown[] = []
    for (const resource of [...this.#owned].reverse()) {
      this.#owned.delete(resource)
      try {
        resource[Symbol.dispose]()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }
}
