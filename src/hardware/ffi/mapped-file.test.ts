import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { viewMemory } from './library.ts'
import { MappedFile } from './mapped-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'mapped-file-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe.skipIf(process.platform !== 'linux')('MappedFile', () => {
  it('is the bytes of the file, until it is disposed', () => {
    const path = join(folder, 'plan')
    writeFileSync(path, 'bytes of a plan')
    const file = new MappedFile(path)
    expect(file.bytes).toBe(15)
    expect(Buffer.from(viewMemory(file.pointer, file.bytes)).toString()).toBe('bytes of a plan')
    file[Symbol.dispose]()
    file[Symbol.dispose]()
    expect(thrownBy(() => file.pointer).code).toBe('USED_AFTER_FREE')
  })

  it.each([
    ['absent', /ENOENT/, undefined],
    ['empty', /empty/, ''],
  ])('says why a file that is %s cannot be mapped', (name, reason, content) => {
    const path = join(folder, name)
    if (content !== undefined) writeFileSync(path, content)
    const error = thrownBy(() => new MappedFile(path))
    expect([error.code, error.message]).toEqual(['FILE_UNREADABLE', expect.stringMatching(reason)])
  })
})
