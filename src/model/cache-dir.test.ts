import { expect, test } from 'vitest'
import { defaultCacheDir } from './cache-dir.ts'

test('follows XDG_CACHE_HOME if it is absolute, else the home folder', () => {
  expect(defaultCacheDir({ XDG_CACHE_HOME: '/data/cache' }, '/home/u')).toBe('/data/cache/akidb-embedding')
  expect(defaultCacheDir({}, '/home/u')).toBe('/home/u/.cache/akidb-embedding')
  expect(defaultCacheDir({ XDG_CACHE_HOME: '' }, '/home/u')).toBe('/home/u/.cache/akidb-embedding')
  expect(defaultCacheDir({ XDG_CACHE_HOME: 'relative' }, '/home/u')).toBe('/home/u/.cache/akidb-embedding')
})
