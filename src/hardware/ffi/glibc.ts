/** Two functions of glibc's malloc. @see malloc.h of glibc 2.36, mallopt(3), malloc_trim(3) */
import { loadLibrary } from './library.ts'

/** malloc.h: the number of arenas is not to exceed this */
export const M_ARENA_MAX = -8

export interface Glibc {
  /** 1 on success */
  readonly mallopt: (param: number, value: number) => number
  /** 1 when memory was given back */
  readonly malloc_trim: (pad: number) => number
}

/** @throws {Error} with the loader's words on systems without glibc */
export function loadGlibc(): Glibc {
  const library = loadLibrary('libc.so.6')
  return {
    mallopt: library.declare('int mallopt(int param, int value)'),
    malloc_trim: library.declare('int malloc_trim(size_t pad)'),
  }
}
