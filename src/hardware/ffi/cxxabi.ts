/** C++ names as people read them, by the runtime of GCC's C++. @see cxxabi.h of GCC 12 */
import { declareOwnedString, loadLibrary, type NativeFunction, type Out, type Pointer } from './library.ts'

type Demangle = NativeFunction<
  [mangled: string, buffer: null, bytes: null, status: Out<number>],
  string | null
>

let demangleName: Demangle | null | undefined

/** '_ZN7cutlass6kernelEv' -> 'cutlass::kernel()'; the name itself where it is none of C++, or no libstdc++ is here. */
export function demangle(name: string): string {
  if (!name.startsWith('_Z')) return name
  demangleName ??= loadDemangle()
  return demangleName?.(name, null, null, [null]) ?? name
}

function loadDemangle(): Demangle | null {
  try {
    const free = loadLibrary('libc.so.6').declare<[memory: Pointer], void>('void free(void *ptr)')
    declareOwnedString('DemangledName', (pointer) => free(pointer as Pointer))
    return loadLibrary('libstdc++.so.6').declare(
      'DemangledName __cxa_demangle(const char *mangled_name, char *output_buffer, size_t *length, _Out_ int *status)',
    )
  } catch {
    return null
  }
}
