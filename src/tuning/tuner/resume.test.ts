import { appendFile, mkdtemp, readFile, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type FakeMachineState, createFakeMachine } from '../../../test/fakes/tuned-side.ts'
import { risingSpeed, tuneOptions } from '../../../test/fixtures/tune-fake-machine.ts'
import { createRandom } from '../measure/random.ts'
import { Journal, readJournal } from './journal.ts'
import { type TuneOptions, tune } from './tune.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'resume-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('a run that is stopped', () => {
  it('cut anywhere goes on where it was, and ends where the whole run did', async () => {
    const whole = join(folder, 'whole.jsonl')
    await using journal = await Journal.open(whole)
    const expected = await tune({ ...tuneOptions, start: createExactMachine().start, journal })
    const text = await readFile(whole, 'utf8')
    const ends = [...text.matchAll(/\n/g)].map(({ index }) => index + 1).slice(1, -1)
    for (const end of ends) {
      const path = join(folder, `cut-${end}.jsonl`)
      await appendFile(path, text)
      // The line after is cut in its middle, as a crash does.
      await truncate(path, end + 25)
      const earlier = await readJournal(path)
      const known = earlier.filter((entry) => entry.kind === 'experiment').length
      const state = createExactMachine()
      await truncate(path, end)
      await using resumed = await Journal.open(path)
      const result = await tune({ ...tuneOptions, start: state.start, journal: resumed, earlier })
      expect(result).toEqual(expected)
      const all = (await readJournal(path)).filter((entry) => entry.kind === 'experiment')
      expect(all.map(({ id }) => id)).toEqual(['e1', 'e2', 'e3', 'e4', 'e5', 'e6'])
      // Incumbent, the rest of the candidates, baseline and untuned at the end: nothing is tried twice.
      expect(state.started.length).toBeLessThanOrEqual(1 + (6 - known) + 2)
    }
  })

  it('by Ctrl-C ends at once; what was found stays', async () => {
    const path = join(folder, 'stopped.jsonl')
    const stop = new AbortController()
    const state = createFakeMachine({ speed: risingSpeed, noise: 0.05, random: createRandom(1) })
    await using journal = await Journal.open(path)
    const onEvent: TuneOptions['onEvent'] = (event) => {
      if (event.kind === 'try' && event.trial === 3) stop.abort()
    }
    await expect(
      tune({ ...tuneOptions, start: state.start, journal, signal: stop.signal, onEvent }),
    ).rejects.toMatchObject({ name: 'AbortError' })
    expect(state.open.size).toBe(0)
    expect((await readJournal(path)).map(({ kind }) => kind)).toEqual([
      'begin',
      'baseline',
      'experiment',
      'experiment',
      'skip',
    ])
  })
})

/** Without noise: two runs agree in every decision. */
function createExactMachine(): FakeMachineState {
  return createFakeMachine({ speed: risingSpeed, noise: 0, random: createRandom(1) })
}
