/** A file as memory: no copy of it is made, pages come from the disk when they are read, and it may be larger than an array.
 * @see mmap(2) */
import { closeSync, fstatSync, openSync } from 'node:fs'
import { EmbedError, toReason } from '../../errors.ts'
import { loadLibrary, type Pointer } from './library.ts'

const PROT_READ = 1
const MAP_PRIVATE = 2
const MAP_FAILED = 0xffff_ffff_ffff_ffffn

export class MappedFile implements Disposable {
  readonly bytes: number
  readonly #pointer: Pointer
  #isMapped = true

  /** The file must not be cut while it is mapped. @throws {EmbedError} FILE_UNREADABLE */
  constructor(path: string) {
    const fail = (reason: string, cause?: unknown) =>
      new EmbedError('FILE_UNREADABLE', { path, reason }, { cause })
    try {
      const file = openSync(path, 'r')
      try {
        this.bytes = fstatSync(file).size
        if (this.bytes === 0) throw new Error('it is empty')
        this.#pointer = libc().mmap(null, this.bytes, PROT_READ, MAP_PRIVATE, file, 0)
      } finally {
        closeSync(file)
      }
    } catch (error) {
      throw fail(toReason(error), error)
    }
    if (BigInt.asUintN(64, this.#pointer) === MAP_FAILED) throw fail('it cannot be mapped into memory')
  }

  /** @throws {EmbedError} USED_AFTER_FREE */
  get pointer(): Pointer {
    if (!this.#isMapped) throw new EmbedError('USED_AFTER_FREE', { resource: 'a mapped file' })
    return this.#pointer
  }

  /** Views of it must not be touched afterwards. */
  [Symbol.dispose](): void {
    if (!this.#isMapped) return
    this.#isMapped = false
    libc().munmap(this.#pointer, this.bytes)
  }
}

function declareLibc() {
  const library = loadLibrary('libc.so.6')
  return {
    mmap: library.declare<
      [at: null, bytes: number, protection: number, flags: number, file: number, offset: number],
      Pointer
    >('void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)'),
    munmap: library.declare<[pointer: Pointer, bytes: number], number>(
      'int munmap(void *addr, size_t length)',
    ),
  }
}

let declared: ReturnType<typeof declareLibc> | undefined

function libc(): ReturnType<typeof declareLibc> {
  declared ??= declareLibc()
  return declared
}
