/** A library that must outlive whoever opened it. @see dlopen(3) */
import { loadLibrary, type NativeFunction, type Pointer } from './library.ts'

const RTLD_LAZY = 1

/** koffi closes what a thread opened when the thread ends, and what the process opened while it ends; a library whose own
 * threads still run then crashes the process. One more reference, never given back, keeps it.
 * @throws {Error} with the loader's words when it cannot be opened */
export function keepLibraryOpen(path: string): void {
  loadLibrary(path) // tells why it cannot be opened
  findDlopen()(path, RTLD_LAZY)
}

function findDlopen(): NativeFunction<[path: string, flags: number], Pointer | null> {
  const prototype = 'void *dlopen(const char *filename, int flags)'
  try {
    return loadLibrary('libc.so.6').declare(prototype)
  } catch {
    // Before glibc 2.34.
    return loadLibrary('libdl.so.2').declare(prototype)
  }
}
