import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createArithmeticPipeline } from '../../../test/fakes/arithmetic-pipeline.ts'
import { VirtualLoadClock, VirtualTarget } from '../../../test/fakes/virtual-load.ts'
import { startArithmeticServer } from '../../../test/fixtures/start-arithmetic-server.ts'
import { type BenchRecord, loadBenchRecord, saveBenchRecord } from './bench-record.ts'
import { type Scenario, findNoise, runBench } from './bench.ts'
import { compareRecords, compareTargets } from './compare-records.ts'
import { formatBench, formatComparisons } from './format-bench.ts'
import { createHttpTarget, readExposition } from './http-target.ts'
import { createInProcessTarget } from './in-process-target.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-'))
})
afterAll(() => rm(folder, { recursive: true }))

const workload = { name: '5 tokens', requests: [{ texts: ['hello'], tokens: 5 }] }
const scenario: Scenario = {
  name: '5 tokens, 2 clients',
  workload,
  load: { kind: 'closed', clients: 2 },
}
const settings = { rounds: 5, roundMs: 60, warmupMs: 10, model: 'arithmetic', packageVersion: '0' }

describe('targets', () => {
  it.each([
    ['', {}],
    ['/embed', {}],
    ['/v1/embeddings', {}],
    ['', { apiKey: 'secret' }],
  ])('a server at %s, %o: vectors, and counters of its /metrics', async (path, keys) => {
    await using server = await startArithmeticServer({ ...keys, metrics: true })
    await using target = await createHttpTarget(server.url + path, keys)
    const before = await target.readCounters()
    await target.send({ texts: ['abc', 'defg'], tokens: 7 })
    const after = await target.readCounters()
    expect(after.inputs! - before.inputs!).toBe(2)
    expect(after.batches! - before.batches!).toBe(1)
    expect(after.paddingRatioSum! - before.paddingRatioSum!).toBeCloseTo(1 / 8, 6)
    expect(after.cpuSeconds).toBeGreaterThanOrEqual(before.cpuSeconds!)
    expect(after.rssBytes).toBeGreaterThan(1e6)
  })

  it('a pipeline of this process counts its own batches only', async () => {
    const served = createArithmeticPipeline()
    const other = createArithmeticPipeline()
    await using target = createInProcessTarget('here', served.pipeline)
    await target.send({ texts: ['abc', 'defg'], tokens: 7 })
    await other.pipeline.embed({ inputs: ['x'], truncation: 'right' })
    expect(await target.readCounters()).toMatchObject({ batches: 1, inputs: 2, paddingRatioSum: 1 / 8 })
    for (const { pipeline } of [served, other]) await pipeline[Symbol.asyncDispose]()
  })

  it('no server, no route, a refusal: TARGET_FAILED with what was answered', async () => {
    const failure = { code: 'TARGET_FAILED' }
    await expect(createHttpTarget('nonsense')).rejects.toMatchObject(failure)
    await expect(createHttpTarget('http://127.0.0.1:1')).rejects.toMatchObject(failure)
    await using server = await startArithmeticServer({ apiKey: 'secret' })
    await expect(createHttpTarget(server.url)).rejects.toThrow('/embed: 401')
    await using target = await createHttpTarget(server.url, { apiKey: 'secret' })
    await expect(target.send({ texts: [''], tokens: 0 })).rejects.toThrow('answered 400')
  })

  it("reads TEI's counters, and tells nothing where there are none", () => {
    const text = 'te_batch_next_size_sum 40\nte_batch_next_size_count 10\n'
    expect(readExposition(text)).toEqual({
      batches: 10,
      inputs: 40,
      paddingRatioSum: undefined,
      cpuSeconds: undefined,
      rssBytes: undefined,
    })
    expect(readExposition('').batches).toBeUndefined()
  })
})

interface Benched {
  readonly record: BenchRecord
  /** Names of the targets in the order of their turns; equal neighbours once. */
  readonly turns: readonly string[]
}

async function benchTwo(fastMs: number, slowMs: number): Promise<Benched> {
  const clock = new VirtualLoadClock()
  const turns: string[] = []
  const targets = [['fast', fastMs] as const, ['slow', slowMs] as const].map(([name, delayMs]) => {
    return new VirtualTarget(name, clock, () => {
      if (turns.at(-1) !== name) turns.push(name)
      return delayMs
    })
  })
  const record = await clock.until(runBench({ ...settings, targets, scenarios: [scenario], clock }))
  return { record, turns }
}

describe('bench', () => {
  it('interleaves the targets, starting with another one each round, and finds the faster one', async () => {
    const { record, turns } = await benchTwo(2, 20)
    // fast slow | slow fast | fast slow …: what follows itself shows once.
    expect(turns).toEqual(['fast', 'slow', 'fast', 'slow', 'fast', 'slow'])
    expect(record.rows.map(({ target, rounds }) => [target, rounds.length])).toEqual([
      ['fast', 5],
      ['slow', 5],
    ])
    expect(record.samples).toHaveLength(6)
    const comparisons = compareTargets(record)
    expect(comparisons.map(({ metric, verdict }) => [metric, verdict])).toEqual([
      ['textsPerSecond', 'worse'],
      ['p50Ms', 'worse'],
      ['p95Ms', 'worse'],
      ['p99Ms', 'worse'],
    ])
    expect(comparisons[1]!.ratio).toBe(10)
    const table = formatBench(record)
    expect(table).toContain('5 tokens, 2 clients')
    expect(table).toMatch(/fast +\d+\.\d\d +/)
    expect(formatComparisons(comparisons)).toContain('slow / fast')
  })

  it('keeps a record, compares it with another, refuses what is none', async () => {
    const [before, after] = [(await benchTwo(2, 20)).record, (await benchTwo(20, 20)).record]
    const path = join(folder, 'before.json')
    await saveBenchRecord(path, before)
    expect(await loadBenchRecord(path)).toEqual(before)
    const verdicts = compareRecords(after, before)
      .filter(({ metric }) => metric === 'p50Ms')
      .map(({ candidate, verdict }) => [candidate, verdict])
    expect(verdicts[0]).toEqual(['fast', 'worse'])
    await writeFile(path, '{"version":1}')
    await expect(loadBenchRecord(path)).rejects.toMatchObject({ code: 'FILE_FORMAT' })
    await expect(loadBenchRecord(join(folder, 'none.json'))).rejects.toMatchObject({
      code: 'FILE_UNREADABLE',
    })
    await expect(saveBenchRecord(join(folder, 'no/record.json'), before)).rejects.toMatchObject({
      code: 'FILE_UNWRITABLE',
    })
  })

  it('says what makes a run noisy', () => {
    expect(findNoise([row([100, 101, 99, 100, 102])], 0.2, 2)).toEqual([])
    expect(findNoise([row([100, 101, 99, 100, 102])], 1.5, 2)).toEqual([
      'load average 1.50 before the first round, on 2 cores',
    ])
    expect(findNoise([row([100, 140, 70, 100, 130])], 0, 2)).toEqual([
      't, s: the middle half of the rounds spans 30 % in texts/s',
    ])
    expect(findNoise([row([1, 1], 2)], 0, 2)).toEqual(['t, s: 4 requests failed, the first: queue full'])
  })
})

function row(rates: readonly number[], errors = 0): BenchRecord['rows'][number] {
  return {
    target: 't',
    scenario: 's',
    rounds: rates.map((textsPerSecond) => ({
      requests: 1,
      p50Ms: 1,
      p95Ms: 1,
      p99Ms: 1,
      maxMs: 1,
      requestsPerSecond: 1,
      textsPerSecond,
      tokensPerSecond: 1,
      errors,
      averageBatchSize: null,
      paddingRatio: null,
      cpuCores: null,
      rssBytes: null,
      ...(errors === 0 ? {} : { firstError: 'queue full' }),
    })),
  }
}
