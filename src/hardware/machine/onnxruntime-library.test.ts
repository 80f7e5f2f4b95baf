import { existsSync } from 'node:fs'
import { expect, it } from 'vitest'
import { findOnnxruntimeLibrary } from './onnxruntime-library.ts'

it('finds the library of the installed package', () => {
  const path = findOnnxruntimeLibrary()
  expect(existsSync(path)).toBe(true)
  expect(path).toContain(process.arch)
})
