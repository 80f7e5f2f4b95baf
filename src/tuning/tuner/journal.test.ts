import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Journal, readJournal } from './journal.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'journal-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('the journal', () => {
  it('a damaged line, and a folder that is not there, are told', async () => {
    const path = join(folder, 'damaged.jsonl')
    await appendFile(path, '{"kind":"resume"}\n{cut\n{"kind":"resume"}\n')
    await expect(readJournal(path)).rejects.toThrow('line 2 is no JSON')
    expect(await readJournal(join(folder, 'none.jsonl'))).toEqual([])
    await expect(Journal.open(join(folder, 'no/where.jsonl'))).rejects.toMatchObject({
      code: 'FILE_UNWRITABLE',
    })
  })

  it('of an earlier form is refused, and stays as it is', async () => {
    const path = join(folder, 'old.jsonl')
    await appendFile(path, '{"kind":"begin","version":1}\n')
    await expect(readJournal(path)).rejects.toThrow('an earlier version of this package wrote it')
  })

  it('a full disk is told, and what is there stays readable', async () => {
    await using journal = await Journal.open('/dev/full')
    await expect(journal.append({ kind: 'resume', date: '' })).rejects.toMatchObject({ code: 'NO_SPACE' })
  })
})
