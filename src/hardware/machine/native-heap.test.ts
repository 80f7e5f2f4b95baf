import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { limitArenas, trimNativeHeap } from './native-heap.ts'

const isGlibc = process.platform === 'linux' && readFileSync('/proc/self/maps', 'utf8').includes('libc.so.6')

describe('the native heap', () => {
  it('is limited where the C library is glibc, and left alone elsewhere', () => {
    expect(limitArenas()).toBe(isGlibc)
    expect(() => trimNativeHeap()).not.toThrow()
  })
})
