import { appendFile, mkdtemp, readFile, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type FakeMachine, createFakeMachine } from '../../../test/fakes/tuned-side.ts'
import { createRandom } from '../measure/random.ts'
import { type ExperimentEntry, Journal, type JournalEntry, type RunFacts, readJournal } from './journal.ts'
import {
  type Stage,
  baselineSettings,
  chooseEngines,
  knobsFor,
  planStages,
  toChange,
} from './search-space.ts'
import type { Settings } from './side.ts'
import { type TuneOptions, type TuneResult, tune } from './tune.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tune-'))
})
afterAll(() => rm(folder, { recursive: true }))

const facts: RunFacts = { checklist: [], limits: { missing: 'a test' }, hasSyntheticWeights: false }
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
    facts,
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
      { memoryLimits: { rssBytes: 2 ** 30, gpuBytes: 1 } },
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
        { stages: twoStages, finalRounds: 6, untuned: { engine: 'onnx', maxBatchSize: 1 } },
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
    const options = { key, stages, facts, baseline: baselineSettings(machine), untuned: {} }
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
    const options = { key, stages, facts, baseline: baselineSettings(machine), untuned: {}, earlier: [] }
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

describe('the search space', () => {
  const cpuEngines = chooseEngines(machine, false)
  const gpu = { usableCores: 16, hasGpu: true }

  it('skips GPU stages without a GPU by name, takes the values of the schema', () => {
    const planned = planStages(machine, cpuEngines)
    for (const stage of ['builder', 'tactics', 'workspace', 'memory']) {
      expect(planned.find(({ name }) => name === stage)).toMatchObject({
        skipped: 'no NVIDIA GPU on this machine',
      })
    }
    expect(planned[0]).toEqual({
      name: 'engine',
      knobs: [{ key: 'engine', values: ['onnx', 'openvino'], byDefault: 'auto' }],
    })
    const threads = planned.find(({ name }) => name === 'threads')!
    expect(threads.knobs).toEqual([{ key: 'threads', values: [1, 2, 4], byDefault: undefined }])
    expect(() => planStages(machine, cpuEngines, ['batchin'])).toThrow("did you mean 'batching'?")
    expect(planStages(machine, cpuEngines, ['batching']).map(({ name }) => name)).toEqual(['batching'])
  })

  it('starts where a model can: onnx, or the GPU for one too large for fp32; or where it is told', () => {
    expect(chooseEngines(gpu, false)).toEqual(['onnx', 'openvino', 'tensorrt', 'cuda'])
    expect(chooseEngines(gpu, true)).toEqual(['cuda', 'tensorrt'])
    expect(chooseEngines(machine, true, 'tensorrt,cuda')).toEqual(['tensorrt', 'cuda'])
    expect(() => chooseEngines(machine, false, 'onxx')).toThrow("'onxx' is no engine")
    expect(baselineSettings(gpu, 'tensorrt')).toEqual({
      engine: 'tensorrt',
      precision: 'bf16',
      cudaGraphs: 0,
      streams: 1,
      maxBatchSize: 1,
      adaptiveBatching: true,
    })
    expect(baselineSettings(gpu, 'cuda')).not.toHaveProperty('streams')
    expect(baselineSettings(machine)).toMatchObject({ engine: 'onnx', precision: 'fp32', threads: 2 })
  })

  it('gives an engine its own knobs and precisions, and another engine a precision that it has', () => {
    const planned = planStages(gpu, ['tensorrt', 'cuda'])
    const keysFor = (engine: 'tensorrt' | 'cuda' | 'onnx', stage: string): string[] =>
      knobsFor(
        planned.find(({ name }) => name === stage)!,
        { engine, precision: 'bf16' },
      ).map(({ key: k }) => k)
    expect(keysFor('tensorrt', 'memory')).toEqual(['cudaGraphs', 'gpuWait', 'embeddingTable'])
    expect(keysFor('cuda', 'memory')).toEqual(['cudaGraphs', 'gpuWait'])
    expect(keysFor('cuda', 'tactics')).toEqual([])
    expect(keysFor('cuda', 'threads')).toEqual([])
    expect(keysFor('onnx', 'memory')).toEqual([])
    const precision = planned.find(({ name }) => name === 'precision')!
    expect(knobsFor(precision, { engine: 'cuda', precision: 'bf16' })[0]!.values).toEqual([
      'bf16',
      'fp8',
      'fp8-rowwise',
    ])
    const [engine] = planned[0]!.knobs
    expect(toChange(engine!, 'cuda', { engine: 'onnx', precision: 'fp32' })).toEqual({
      engine: 'cuda',
      precision: 'bf16',
    })
    expect(toChange(engine!, 'cuda', { engine: 'tensorrt', precision: 'fp8' })).toEqual({ engine: 'cuda' })
  })

  it('leaves a precision that the engine does not have to one that has it', () => {
    const stage = planStages(machine, cpuEngines, ['precision'])[0]!
    const settings = { engine: 'onnx', precision: 'fp32' } as const
    const [knob] = knobsFor(stage, settings)
    expect(knob!.values).toEqual(['fp32', 'bf16'])
    expect(toChange(knob!, 'bf16', settings)).toEqual({ engine: 'openvino', precision: 'bf16' })
    expect(toChange(knob!, 'bf16', { ...settings, engine: 'openvino' })).toEqual({ precision: 'bf16' })
    expect(knobsFor(planStages(machine, ['onnx'], ['precision'])[0]!, settings)).toEqual([])
  })

  it('finds bf16 where both engines are equally fast at fp32', async () => {
    const { result } = await run(
      { speed: ({ precision }) => (precision === 'bf16' ? 300 : 100), noise: 0.02 },
      { stages: planStages(machine, cpuEngines, ['engine', 'precision']) },
    )
    expect(result.settings).toMatchObject({ engine: 'openvino', precision: 'bf16' })
  })
})

function perSecond(settings: Settings): number {
  return (
    100 *
    (settings.precision === 'fp8' ? 1.5 : settings.precision === 'fp8-rowwise' ? 1.2 : 1) *
    (settings.builderOptimizationLevel === 5 ? 1.1 : 1) *
    (settings.cudaGraphs === 32 ? 1.3 : 1) *
    (settings.engine === 'cuda' ? 0.8 : 1)
  )
}

describe('a GPU, as far as a fake shows it', () => {
  const gpu = { usableCores: 16, hasGpu: true }
  it('goes through the stages of TensorRT in the order of the plan', async () => {
    const { result, experiments, entries } = await run(
      { speed: perSecond, noise: 0.01 },
      { stages: planStages(gpu, ['tensorrt', 'cuda']), baseline: baselineSettings(gpu, 'tensorrt') },
    )
    expect(result.settings).toMatchObject({
      engine: 'tensorrt',
      precision: 'fp8',
      builderOptimizationLevel: 5,
      cudaGraphs: 32,
    })
    expect([...new Set(experiments.map(({ stage }) => stage))]).toEqual([
      'engine',
      'precision',
      'builder',
      'tactics',
      'workspace',
      'memory',
      'streams',
      'batching',
    ])
    expect(entries.find((entry) => entry.kind === 'skip')).toMatchObject({
      stage: 'threads',
      reason: 'the engine tensorrt has no threads',
    })
  })

  it("judges the GPU's memory, not that of a process that may have built a plan", async () => {
    const limited = async (memoryLimits: TuneOptions['memoryLimits']): Promise<string> => {
      const { experiments } = await run(
        { speed: perSecond, noise: 0.01, rssBytes: () => 2 ** 34 },
        {
          stages: planStages(gpu, ['cuda'], ['precision']),
          baseline: baselineSettings(gpu, 'cuda'),
          memoryLimits,
        },
      )
      return experiments[0]!.result.reason
    }
    expect(await limited({ rssBytes: 1, gpuBytes: 2 ** 30 })).toBe('faster')
    expect(await limited({ gpuBytes: 2 ** 29 })).toBe("takes 1024 MiB of the GPU's memory, 512 are allowed")
  })

  it('skips by name what the engine cuda does not have', async () => {
    const { entries } = await run(
      { speed: perSecond, noise: 0.01 },
      { stages: planStages(gpu, ['cuda']), baseline: baselineSettings(gpu, 'cuda') },
    )
    const skips = entries.filter((entry) => entry.kind === 'skip')
    expect(skips.map(({ stage }) => stage)).toEqual([
      'engine',
      'builder',
      'tactics',
      'workspace',
      'threads',
      'streams',
    ])
    expect(skips[1]!.reason).toBe(
      'the engine cuda has no builderOptimizationLevel, profileTokens, enginePerProfile',
    )
  })
})

describe('the end of a run', () => {
  it('takes the untuned default where that is faster than what little time found', async () => {
    const { result, entries } = await run(
      { speed: (settings) => (settings.engine === undefined ? 300 : 100), noise: 0.02 },
      { maxTrials: 1, untuned: { maxQueuedRequests: 7 } },
    )
    expect(result).toMatchObject({ incumbentId: 'untuned', settings: { maxQueuedRequests: 7 } })
    expect(result.final.instead!.lossToUntuned.high).toBeLessThan(0.5)
    expect(result.final.winner).toEqual(result.final.untuned)
    expect(entries.at(-1)).toMatchObject({ kind: 'end', incumbentId: 'untuned' })
  })

  it('takes it where one number of clients loses what others gain', async () => {
    const { result } = await run(
      {
        speed: () => 100,
        factor: (settings, scenario) =>
          settings.engine === undefined
            ? 1
            : scenario === '16 clients'
              ? 0.85
              : scenario === '4 clients'
                ? 1.2
                : 1,
        noise: 0.01,
      },
      { maxTrials: 0, finalRounds: 12 },
    )
    expect(result.incumbentId).toBe('untuned')
    expect(result.final.instead!.lossToUntuned).toMatchObject({ scenario: '16 clients' })
  })

  it('takes it in doubt, too: what was found has to prove itself', async () => {
    const ends = []
    for (let seed = 0; seed < 12; seed++) {
      const { result } = await run(
        {
          speed: (settings) => (settings.engine === undefined ? 120 : 100),
          noise: 0.4,
          random: createRandom(seed),
        },
        { maxTrials: 0 },
      )
      ends.push(result.final.instead?.lossToUntuned)
    }
    expect(ends.some((loss) => loss !== undefined && loss.high >= 1)).toBe(true)
    expect(ends.every((loss) => loss === undefined || loss.ratio < 1)).toBe(true)
  })

  it('does not where the untuned default is not as exact', async () => {
    const { result } = await run(
      {
        speed: (settings) => (settings.engine === undefined ? 300 : 100),
        cosine: (settings) => (settings.engine === undefined ? 0.9 : 0.9999),
        noise: 0.02,
      },
      { maxTrials: 1 },
    )
    expect(result.incumbentId).not.toBe('untuned')
  })

  it('goes without the untuned default where that does not start, and says so', async () => {
    const { result } = await run(
      { speed, noise: 0.02, fails: ({ engine }) => (engine === undefined ? 'start' : undefined) },
      { maxTrials: 1 },
    )
    expect(result.final.untuned).toEqual({ missing: 'it does not start: planted failure at the start' })
    expect(result.final.gains[0]).toMatchObject({ overUntuned: undefined })
    expect(result.incumbentId).toBe('e1')
  })

  it('a service that cannot be started is told with its words', async () => {
    await expect(run({ fails: () => 'start' })).rejects.toMatchObject({
      code: 'TUNING_FAILED',
      message: expect.stringContaining('baseline: planted failure at the start') as unknown,
    })
  })

  it('profiles baseline and winner; a profile that fails is told and ends nothing', async () => {
    const profiled: Settings[] = []
    const { entries, result } = await run(
      { speed, noise: 0.02 },
      {
        maxTrials: 1,
        profile: (settings) => {
          profiled.push(settings)
          return Promise.reject(new Error('planted'))
        },
      },
    )
    expect(profiled[0]).toMatchObject({ engine: 'onnx' })
    expect(profiled.slice(1)).toEqual([result.settings])
    const missing = { missing: 'planted' }
    expect(entries.at(-1)).toEqual({ kind: 'profile', profile: missing, baseline: missing })
  })

  it('tries each change alone after a missed target, and says what needs another one', async () => {
    const options = { stages: stages.slice(0, 2), isTargetMissed: () => true }
    const { entries } = await run(
      {
        speed,
        noise: 0.01,
        // bf16 needs openvino.
        fails: ({ engine, precision }) => (engine === 'onnx' && precision === 'bf16' ? 'start' : undefined),
      },
      options,
    )
    expect(entries.at(-1)).toMatchObject({
      kind: 'isolation',
      results: [
        { change: { engine: 'openvino' }, outcome: 'better' },
        { change: { precision: 'bf16' }, outcome: 'failed' },
      ],
    })
    const reached = await run({ speed, noise: 0.01 }, { ...options, isTargetMissed: () => false })
    expect(reached.entries.at(-1)!.kind).toBe('end')
  })
})

describe('the time', () => {
  it('is given to what looks like a gain: up to three times the share', async () => {
    // A seventh of the time is for the first knob: about eight pairs.
    const ordered = [stages[3]!, stages[0]!, stages[1]!]
    const countPairs = async (gain: number): Promise<number> => {
      let pairs = 0
      for (let seed = 0; seed < 12; seed++) {
        let nowMs = 0
        const { experiments } = await run(
          {
            speed: ({ maxBatchSize }) => (maxBatchSize === 4 ? gain : 1) * 100,
            factor: () => {
              nowMs += 100
              return 1
            },
            noise: 0.3,
            random: createRandom(seed),
          },
          { stages: ordered, maxTrials: 1, finalRounds: 6, budgetMs: 40_000, nowMs: () => nowMs },
        )
        pairs += experiments[0]!.result.comparison!.pairs
      }
      return pairs
    }
    expect(await countPairs(1.1)).toBeGreaterThan(1.3 * (await countPairs(0.95)))
  })

  it('is shared: a knob that noise drowns does not take that of the others', async () => {
    let nowMs = 0
    const state = createFakeMachine({ speed: () => 100, noise: 0.5, random: createRandom(5) })
    const path = join(folder, 'shared.jsonl')
    await using journal = await Journal.open(path)
    await tune({
      key,
      stages,
      facts,
      baseline: baselineSettings(machine),
      untuned: {},
      // Every measurement takes a second.
      start: async (settings) => {
        const side = await state.start(settings)
        return {
          ...side,
          measure: () => {
            nowMs += 1000
            return side.measure()
          },
        }
      },
      journal,
      earlier: [],
      finalRounds: 6,
      budgetMs: 180_000,
      nowMs: () => nowMs,
    })
    const tried = (await readJournal(path)).filter((entry) => entry.kind === 'experiment')
    expect(new Set(tried.map(({ stage }) => stage))).toEqual(new Set(['engine', 'batching']))
    // The end included.
    expect(nowMs).toBeLessThan(220_000)
  })
})
