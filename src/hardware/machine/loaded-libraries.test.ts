import { expect, it } from 'vitest'
import { listLoadedLibraries } from './loaded-libraries.ts'

it('reads the libraries of a process, each once', () => {
  const maps = [
    '00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon',
    '7f00-7f10 r-xp 00000000 08:02 1   /opt/a b/libcublas.so.12',
    '7f10-7f20 rw-p 00010000 08:02 1   /opt/a b/libcublas.so.12',
    '7f20-7f30 r--p 00000000 08:02 2   /usr/lib/libcudnn_graph.so.9.1.0',
    '7f30-7f40 r--p 00000000 08:02 2   /usr/lib/libc.so',
    '7f40-7f50 rw-p 00000000 00:00 0   [heap]',
    '7f50-7f60 rw-p 00000000 00:00 0 ',
    '7f60-7f70 r--s 00000000 08:02 3   /usr/share/libnot.so.txt',
  ].join('\n')
  expect(listLoadedLibraries(maps)).toEqual([
    '/opt/a b/libcublas.so.12',
    '/usr/lib/libc.so',
    '/usr/lib/libcudnn_graph.so.9.1.0',
  ])
})

it.runIf(process.platform === 'linux')('knows what this process has opened', () => {
  expect(listLoadedLibraries().join('\n')).toMatch(/\/(libc|ld-musl|libm)[-.\w]*\.so/)
})
