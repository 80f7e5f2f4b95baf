import { expect, it } from 'vitest'
import { demangle } from './cxxabi.ts'

it.runIf(process.platform === 'linux')('names of C++ as people read them, others as they are', () => {
  expect(demangle('_ZN7cutlass13device_kernelEi')).toBe('cutlass::device_kernel(int)')
  expect(demangle('_Z9transposePfS_ii')).toBe('transpose(float*, float*, int, int)')
  for (const name of ['nvjet_qqtst_128x256', '_Znot a name', '_Z', '']) expect(demangle(name)).toBe(name)
})
