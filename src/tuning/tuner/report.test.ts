import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeFakeTuning } from '../../../test/fixtures/fake-tuning.ts'
import { createRandom } from '../measure/random.ts'
import { buildGuide } from './guide.ts'
import type { FinalComparison } from './journal.ts'
import { predictRound } from './predict-round.ts'
import { renderHtml, renderMarkdown } from './render-report.ts'
import { buildReport } from './report.ts'
import { type TuningStory, judgeStory, winningSteps } from './story.ts'
import { checkTargets, defaultTargets, readTargets } from './targets.ts'
import { assertTunedFits, readTunedFile, writeTunedFile } from './tuned-config.ts'

let folder: string
let story: TuningStory
const key = { model: '<m>', modelHash: 'hash', cpu: 'c', usableCores: 2, packageVersion: '0' }
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'report-'))
  story = await makeFakeTuning()
})
afterAll(() => rm(folder, { recursive: true }))

describe('the report', () => {
  it('names winner, gains, failures and what was left out, and holds no hole', () => {
    expect(winningSteps(story).map(({ change }) => change)).toEqual([
      { engine: 'openvino' },
      { maxBatchSize: 4 },
    ])
    const blocks = buildReport(story, defaultTargets)
    const markdown = renderMarkdown('Tuning', blocks)
    expect(markdown).toContain('Winner: e3, engine openvino')
    expect(markdown).toMatch(
      /Texts\/s, winner \/ baseline: 3\.\d\d with 1 client, 3\.\d\d with 4 clients, .*Targets reached: 6 of 8; not measured: 'GPU memory', 'p95, 8 clients \(ours\)'\./,
    )
    expect(markdown).toContain('Baseline: the plain service, engine onnx, precision fp32')
    expect(markdown).toContain('failed: does not start: planted failure at the start')
    expect(markdown).toContain('Not tried, no NVIDIA GPU on this machine: tactics.')
    // 256 tokens of MiniLM at 1 TFLOPS: 6.0 ms.
    expect(markdown).toMatch(
      /\| p95, 1 client \| <= 30.00 ms \| reachable \| 6\.\d\d ms \| 2\d\.\d\d ms \| \d\.\d\d ms \| \d+ % \| PASS \| reachable: 0\.\d\d ms \|/,
    )
    expect(markdown).toMatch(
      /\| worst cosine .* \| PASS \(synthetic weights: numerics, not retrieval quality\) \|/,
    )
    expect(markdown).toMatch(/\| retrieval: .* \| not measured: weights not available \|/)
    expect(markdown).toMatch(/\| GPU memory .* \| not measured: it runs on the CPU \|/)
    expect(markdown).toMatch(
      /\| p95, 8 clients \(ours\) .* not measured: no closed loop of 8 clients was run/,
    )
    expect(markdown).toMatch(
      /\| another engine \| no figure \| \d\.\d\d times \| .* ms \| engine openvino \|/,
    )
    expect(markdown).toMatch(
      /\| engine utilisation, 4 clients \(ours\) \| > 80 % \|.*\| 70 % \| 90 % \| no bound \| PASS \|/,
    )
    expect(markdown).toMatch(/\| GPU utilisation \| > 80 % \|.*not measured: it runs on the CPU \|/)
    expect(markdown).toContain('| baseline: attention | 20.0 % |')
    expect(markdown).toContain('| winner: product | 80.0 % |')
    expect(markdown).toContain('A batch of the winner on the GPU: see report.html.')
    expect(markdown).toContain('Next: more of openvino; planted.')
    expect(markdown).not.toContain('more of onnx')
    expect(markdown).toContain(
      '| lower precision | FP8: from 80 to 50-60 ms | not measured: what was tried failed |',
    )
    expect(markdown).toContain('not measured: no NVIDIA GPU on this machine; the stage was not asked for')
    expect(markdown).toMatch(/\| maxBatchSize 4 \| 3\.\d\d \|/)
    expect(markdown).toMatch(
      /\| 1 client \| texts\/s \| 10\d\.\d \| (9\d|10\d)\.\d \| 0\.9\d \(0\.9\d-[01]\.\d\d\) \| within 10 % \| PASS \|/,
    )
    for (const text of [markdown, renderHtml('Tuning', blocks)]) {
      expect(text).not.toMatch(/undefined|NaN|Infinity|\[object/)
    }
  })

  it('shows what the search had kept where the untuned default was taken', () => {
    const lossToUntuned = { ratio: 0.8, low: 0.7, high: 0.9 }
    const final = { ...story.end.final, instead: { lossToUntuned, quality: story.baseline.quality } }
    const taken = { ...story, end: { ...story.end, incumbentId: 'untuned', settings: {}, final } }
    const markdown = renderMarkdown('Tuning', buildReport(taken, defaultTargets))
    expect(markdown).toContain('Winner: untuned, the defaults (')
    expect(markdown).toContain('gave 0.80 (0.70-0.90) times the texts/s of the untuned default')
    expect(markdown).toMatch(/\| maxBatchSize 4 \| 3\.\d\d \|/)
    expect(winningSteps(taken)).toEqual([])
    expect(renderMarkdown('Guide', buildGuide(taken, 'tuned.json'))).toContain('The defaults: nothing that')
  })

  it('says where the baseline is no fair one, and why that was not measured', () => {
    const render = (plainLoop: FinalComparison['plainLoop']): string => {
      const final = { ...story.end.final, plainLoop: plainLoop! }
      return renderMarkdown('Tuning', buildReport({ ...story, end: { ...story.end, final } }, defaultTargets))
    }
    const slow = {
      scenario: '1 client',
      textsPerSecond: 125,
      baselineByPlain: { ratio: 0.8, low: 0.7, high: 0.89 },
    }
    expect(render(slow)).toMatch(/\| 125\.0 \| .* \| 0\.80 \(0\.70-0\.89\) \| within 10 % \| FAIL \|/)
    const noisy = { ...slow, baselineByPlain: { ratio: 0.8, low: 0.6, high: 1.2 } }
    expect(render(noisy)).toContain('| within 10 % | doubtful: too much noise |')
    expect(render({ missing: 'planted' })).toContain('onnxruntime-node: not measured: planted.')
  })

  it('is one HTML file that asks for nothing else and escapes what it shows', () => {
    const html = renderHtml('Tuning of <m>', buildReport(story, defaultTargets))
    expect(html).toContain('<title>Tuning of &lt;m&gt;</title>')
    expect(html).not.toMatch(/<m>|<script|<link|(src|href)=/)
    expect(html.match(/<svg/g)).toHaveLength(8)
    expect(html).toContain('<figcaption>A batch of the baseline on the GPU</figcaption><svg id="onnx"/>')
    const widths = [...html.matchAll(/width="(\d+\.\d)"/g)].map(([, width]) => Number(width))
    expect(Math.max(...widths)).toBe(460)
    // The longest rate and latency, two shares and three qualities that are equal.
    expect(widths.filter((width) => width === 460)).toHaveLength(7)
  })

  it('the guide gives each setting its reason and each failure its words', () => {
    const guide = renderMarkdown('Guide', buildGuide(story, 'tuned/tuned.json'))
    expect(guide).toContain('serve --tuned tuned/tuned.json')
    expect(guide).toMatch(/\| engine \| openvino \| \+\d+\.\d % texts\/s .* against baseline \|/)
    expect(guide).toContain('| precision | fp32 | as in the baseline |')
    expect(guide).toContain('planted failure at the start')
    expect(guide).not.toMatch(/undefined|NaN/)
  })

  it('a target that was missed, and one that was not measured, are told', () => {
    const judged = judgeStory(story, [
      { name: 'a', metric: 'textsPerSecond', clients: 4, atLeast: 1e6 },
      { name: 'b', metric: 'p95Ms', clients: 99, atMost: 1 },
      { name: 'c', metric: 'rssBytes', atMost: 2 ** 28 },
    ])
    expect(judged.map(({ verdict }) => verdict)).toEqual(['FAIL', 'not measured', 'PASS'])
  })
})

describe('targets', () => {
  it.each([
    ['{', 'FILE_UNREADABLE'],
    ['[]', 'TARGETS_INVALID'],
    ['[{"name":"a","metric":"speed","atMost":1}]', 'TARGETS_INVALID'],
    ['[{"name":"a","metric":"rssBytes"}]', 'neither atLeast nor atMost'],
    ['[{"name":"a","metric":"p95Ms","atMost":1}]', "'a' needs clients"],
    ['[{"name":"a","metric":"rssBytes","atMost":1,"atLeast":2}]', 'contradict'],
    [
      '[{"name":"a","metric":"p95Ms","clients":1,"atMost":1},{"name":"b","metric":"p95Ms","clients":1,"atLeast":2}]',
      "'b' and 'a' contradict: p95Ms at least 2 and at most 1",
    ],
  ])('%s is refused: %s', async (text, message) => {
    const path = join(folder, 'targets.json')
    await writeFile(path, text)
    const error: unknown = await readTargets(path).catch((thrown: unknown) => thrown)
    expect(`${(error as { code: string }).code} ${(error as Error).message}`).toContain(message)
  })

  it('those by default do not contradict', () => {
    expect(() => checkTargets('default', defaultTargets)).not.toThrow()
  })
})

describe('tuned.json', () => {
  it('comes back as it was written; damage and another machine are told', async () => {
    const path = join(folder, 'tuned.json')
    const figures = { textsPerSecond: 1, p50Ms: 1, p95Ms: 1, p99Ms: 1, expected: { low: 0.9, high: 1.1 } }
    const settings = { engine: 'openvino', maxBatchSize: 8, adaptiveBatching: true } as const
    const tuned = {
      version: 1,
      date: 'd',
      id: 'e1',
      key,
      settings,
      measured: { '1 client': figures },
    } as const
    await writeTunedFile(path, tuned)
    expect(readTunedFile(path)).toEqual(tuned)
    expect(() => assertTunedFits(path, tuned, key)).not.toThrow()
    expect(() => assertTunedFits(path, tuned, { ...key, usableCores: 4, modelHash: 'x' })).toThrow(
      'modelHash was hash, here it is x',
    )
    await writeFile(path, '{"version":1}')
    expect(() => readTunedFile(path)).toThrow('it is no tuned configuration')
    expect(() => readTunedFile(join(folder, 'none'))).toThrow('cannot read')
  })
})

describe('the prediction of one more round', () => {
  it('holds 19 of 20 of them', () => {
    const random = createRandom(1)
    const draw = (): number =>
      100 *
      Math.exp(0.1 * Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next()))
    let inside = 0
    for (let run = 0; run < 2000; run++) {
      const { low, high } = predictRound(Array.from({ length: 12 }, draw))
      const next = draw()
      if (next >= low && next <= high) inside++
    }
    expect(inside / 2000).toBeGreaterThan(0.935)
    expect(inside / 2000).toBeLessThan(0.965)
  })
})
