import { appendFile, mkdtemp, readFile, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type FakeMachine, createFakeMachine } from '../../../test/fakes/tuned-side.ts'
import { createRandom } from '../measure/random.ts'
import { type ExperimentEntry, Journal, type JournalEntry, readJournal } from './journal.ts'
import { type Stage, baselineSettings, planStages } from './search-space.ts'
import type { Settings } from './side.ts'
import { type TuneOptions, type TuneResult, tune } from './tune.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tune-'))
})
afterAll(() => rm(folder, { recursive: true }))

const machine = { usableCores: 2, hasGpu: false }
const key = { model: 'm', modelHash: 'hash', cpu: 'c', usableCores: 2, packageVersion: '0' }
const stages: readonly Stage[] = [
  { name: 'engine', knobs: [{ key: 'engine', values: ['onnx', 'openvino'] }] },
  { name: 'precision', knobs: [{ key: 'precision', values: ['fp32', 'bf16'] }] },
  { name: 'tactics', knobs: [], skipped: 'no NVIDIA GPU on this machine' },
  { name: 'batching', knobs: [{ key: 'maxBatchSize', values: [4, 8, 16, 32] }] },
]

/** Each step helps: the engine 1.5, bf16 2, batches of 8 1.4, larger ones nothing more. */
function speed(settings: Settings): number {
  const batch = settings.maxBatchSize ?? 32
  return (
    100 *
    (settings.engine === 'openvino' ? 1.5 : 1) *
    (settings.precision === 'bf16' ? 2 : 1) *
    (batch === 1 ? 1 : batch === 4 ? 1.2 : 1.4)
  )
}

function isPlanted(settings: Settings): boolean {
  return settings.engine === 'openvino'
}

interface Run {
  readonly result: TuneResult
  readonly experiments: readonly ExperimentEntry[]
  readonly entries: readonly JournalEntry[]
}

let runs = 0
async function run(fake: Partial<FakeMachine>, options: Partial<TuneOptions> = {}): Promise<Run> {
  const path = join(folder, `${runs++}.jsonl`)
  const state = createFakeMachine({ speed, noise: 0.05, random: createRandom(runs), ...fake })
  await using journal = await Journal.open(path)
  const result = await tune({
    key,
    stages,
    baseline: baselineSettings(machine),
    untuned: {},
    start: state.start,
    journal,
    earlier: [],
    ...options,
  })
  expect(state.open.size).toBe(0)
  const entries = await readJournal(path)
  return { result, entries, experiments: entries.filter((entry) => entry.kind === 'experiment') }
}

describe('tune', () => {
  it('keeps what helps, one change at a time, and writes it all down', async () => {
    const { result, experiments, entries } = await run({ random: createRandom(3) })
    expect(result.settings).toMatchObject({ engine: 'openvino', precision: 'bf16', maxBatchSize: 8 })
    expect(experiments.map(({ change, result: { outcome } }) => [Object.values(change)[0], outcome])).toEqual(
      [
        ['openvino', 'kept'],
        ['bf16', 'kept'],
        [4, 'kept'],
        [8, 'kept'],
        [16, 'rolled back'],
      ],
    )
    expect(experiments.map(({ id, incumbentId }) => [id, incumbentId]).slice(0, 3)).toEqual([
      ['e1', 'baseline'],
      ['e2', 'e1'],
      ['e3', 'e2'],
    ])
    expect(entries.map(({ kind }) => kind)).toEqual([
      'begin',
      'baseline',
      'experiment',
      'experiment',
      'skip',
      ...Array.from({ length: 3 }, () => 'experiment'),
      'end',
    ])
    expect(result.final.gains).toHaveLength(3)
    for (const { overBaseline } of result.final.gains) {
      expect(overBaseline.low).toBeLessThan(4.2)
      expect(overBaseline.high).toBeGreaterThan(4.2 * 0.95)
    }
  })

  it('stops at the number of trials and at the time allowed, with what it has', async () => {
    const two = await run({}, { maxTrials: 2 })
    expect(two.result.incumbentId).toBe('e2')
    expect(two.entries.at(-1)).toMatchObject({ kind: 'end', stoppedBy: 'the 2 trials allowed' })
    let nowMs = 0
    const short = await run({}, { budgetMs: 60_000, nowMs: () => (nowMs += 20_000) })
    expect(short.entries.at(-1)).toMatchObject({ stoppedBy: 'the 1 minutes allowed' })
    expect(short.experiments.length).toBeLessThan(3)
  })

  it('a candidate that is faster over all but slower with one client is rolled back', async () => {
    const { result, experiments } = await run({
      factor: (settings, scenario) => (settings.maxBatchSize === 1 ? 1 : scenario === '1 client' ? 0.6 : 1.5),
    })
    expect(result.settings.maxBatchSize).toBe(1)
    expect(experiments.at(-1)!.result.reason).toBe('faster over all, but slower with 1 client')
  })

  it('a candidate that takes too much memory is rolled back', async () => {
    const { experiments } = await run(
      { rssBytes: ({ precision }) => (precision === 'bf16' ? 2 ** 31 : 2 ** 28) },
      { maxMemoryBytes: 2 ** 30 },
    )
    expect(experiments[1]!.result).toMatchObject({
      outcome: 'rolled back',
      reason: 'takes 2048 MiB of memory, 1024 are allowed',
    })
  })

  it('a baseline that fails its own check stops the run', async () => {
    await expect(run({ cosine: () => 0.9 })).rejects.toMatchObject({ code: 'TUNING_FAILED' })
  })
})

describe('planted faults, 100 seeds each', () => {
  const seeds = Array.from({ length: 100 }, (_, seed) => seed)
  const twoStages: readonly Stage[] = [
    stages[0]!,
    { name: 'batching', knobs: [{ key: 'maxBatchSize', values: [4] }] },
  ]

  it.each([
    [
      'a candidate that is 10 % slower',
      { speed: (s: Settings) => (isPlanted(s) ? 90 : 100) },
      /^(slower|no gain shown)$/,
      'rolled back',
    ],
    [
      'a worst cosine of 0.985',
      { cosine: (s: Settings) => (isPlanted(s) ? 0.985 : 0.9999) },
      /^quality: worst cosine 0.9850 \(limit 0.99\)$/,
      'rolled back',
    ],
    [
      'a crash under load',
      { fails: (s: Settings) => (isPlanted(s) ? 'measure' : undefined) },
      /SIGSEGV/,
      'failed',
    ],
    [
      'a crash at the start',
      { fails: (s: Settings) => (isPlanted(s) ? 'start' : undefined) },
      /^does not start: planted/,
      'failed',
    ],
    [
      'a crash in the quality check',
      { fails: (s: Settings) => (isPlanted(s) ? 'assess' : undefined) },
      /^failed while its quality was judged/,
      'failed',
    ],
  ] as const)('%s is caught, reverted and named', async (_name, fault, reason, outcome) => {
    for (const seed of seeds) {
      const { result, experiments } = await run(
        { random: createRandom(seed), ...(fault as Partial<FakeMachine>) },
        { stages: twoStages, finalRounds: 6 },
      )
      expect(experiments[0], `seed ${seed}`).toMatchObject({
        change: { engine: 'openvino' },
        result: { outcome },
      })
      expect(experiments[0]!.result.reason, `seed ${seed}`).toMatch(reason)
      expect(result.settings.engine, `seed ${seed}`).toBe('onnx')
      // The run goes on from the incumbent that was there before.
      expect(experiments[1], `seed ${seed}`).toMatchObject({
        incumbentId: 'baseline',
        change: { maxBatchSize: 4 },
      })
    }
  })
})

describe('the journal', () => {
  it('a run cut anywhere goes on where it was, and ends where the whole run did', async () => {
    const whole = join(folder, 'whole.jsonl')
    const options = { key, stages, baseline: baselineSettings(machine), untuned: {} }
    // Without noise: the two runs must agree in every decision.
    const fake = () => createFakeMachine({ speed, noise: 0, random: createRandom(1) })
    await using journal = await Journal.open(whole)
    const expected = await tune({ ...options, start: fake().start, journal, earlier: [] })
    const text = await readFile(whole, 'utf8')
    const ends = [...text.matchAll(/\n/g)].map(({ index }) => index + 1).slice(1, -1)
    for (const end of ends) {
      const path = join(folder, `cut-${end}.jsonl`)
      await appendFile(path, text)
      // The line after is cut in its middle, as a crash does.
      await truncate(path, end + 25)
      const earlier = await readJournal(path)
      const known = earlier.filter((entry) => entry.kind === 'experiment').length
      const state = fake()
      await truncate(path, end)
      await using resumed = await Journal.open(path)
      const result = await tune({ ...options, start: state.start, journal: resumed, earlier })
      expect(result).toEqual(expected)
      const all = (await readJournal(path)).filter((entry) => entry.kind === 'experiment')
      expect(all.map(({ id }) => id)).toEqual(['e1', 'e2', 'e3', 'e4', 'e5'])
      // Incumbent, the rest of the candidates, baseline and untuned at the end: nothing is tried twice.
      expect(state.started.length).toBeLessThanOrEqual(1 + (5 - known) + 2)
    }
  })

  it('Ctrl-C ends the run at once; what was found stays', async () => {
    const path = join(folder, 'stopped.jsonl')
    const stop = new AbortController()
    const state = createFakeMachine({ speed, noise: 0.05, random: createRandom(1) })
    await using journal = await Journal.open(path)
    const onEvent: TuneOptions['onEvent'] = (event) => {
      if (event.kind === 'try' && event.trial === 3) stop.abort()
    }
    const options = { key, stages, baseline: baselineSettings(machine), untuned: {}, earlier: [] }
    await expect(
      tune({ ...options, start: state.start, journal, signal: stop.signal, onEvent }),
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

  it('a damaged line, and a folder that is not there, are told', async () => {
    const path = join(folder, 'damaged.jsonl')
    await appendFile(path, '{"kind":"resume"}\n{cut\n{"kind":"resume"}\n')
    await expect(readJournal(path)).rejects.toThrow('line 2 is no JSON')
    expect(await readJournal(join(folder, 'none.jsonl'))).toEqual([])
    await expect(Journal.open(join(folder, 'no/where.jsonl'))).rejects.toMatchObject({
      code: 'FILE_UNWRITABLE',
    })
  })

  it('a full disk is told, and what is there stays readable', async () => {
    await using journal = await Journal.open('/dev/full')
    await expect(journal.append({ kind: 'resume', date: '' })).rejects.toMatchObject({ code: 'NO_SPACE' })
  })
})

describe('the search space', () => {
  it('skips GPU stages without a GPU by name, takes the values of the schema', () => {
    const planned = planStages(machine)
    expect(planned.find(({ name }) => name === 'tactics')).toMatchObject({
      skipped: 'no NVIDIA GPU on this machine',
    })
    expect(planned[0]).toEqual({
      name: 'engine',
      knobs: [{ key: 'engine', values: ['onnx', 'openvino'], byDefault: 'auto' }],
    })
    const threads = planned.find(({ name }) => name === 'threads')!
    expect(threads.knobs).toEqual([{ key: 'threads', values: [1, 2, 4], byDefault: undefined }])
    expect(() => planStages(machine, ['batchin'])).toThrow("did you mean 'batching'?")
    expect(planStages(machine, ['batching']).map(({ name }) => name)).toEqual(['batching'])
  })
})
