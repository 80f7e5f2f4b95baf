/** The success criteria: wanted, baseline, measured, verdict, and how far that is from what is possible. */
import {
  type LimitFacts,
  type SpeedOfLight,
  computeSpeedOfLight,
  jetsonThor,
} from '../limits/speed-of-light.ts'
import type { Block } from './blocks.ts'
import { type TuningStory, judgeStory, winnerQuality } from './story.ts'
import { limitOf, reachOf, shareOfLimit } from './target-limits.ts'
import { type JudgedTarget, type Target, formatMetric, formatWanted } from './targets.ts'

export function targetBlocks(story: TuningStory, targets: readonly Target[]): Block[] {
  const { limits } = story.begin.facts
  const light = 'missing' in limits ? undefined : computeSpeedOfLight(limits)
  const thor = 'missing' in limits ? undefined : computeSpeedOfLight({ ...limits, peak: jetsonThor })
  return [
    { kind: 'text', text: describeLimits(limits, light) },
    {
      kind: 'table',
      head: [
        'target',
        'wanted',
        'possible here?',
        'best possible',
        'baseline',
        'winner',
        "winner's share of the best",
        'verdict',
        'Jetson Thor: best possible (computed, not measured)',
      ],
      rows: [
        ...judgeStory(story, targets).map((judged) => targetRow(judged, story, light, thor)),
        retrievalRow(story),
        ...profileRows(story),
      ],
    },
  ]
}

function describeLimits(
  limits: LimitFacts | { readonly missing: string },
  light: SpeedOfLight | undefined,
): string {
  if ('missing' in limits) return `The best possible: not measured: ${limits.missing}.`
  if (light === undefined) return 'The best possible: not measured: no peak of this device is known.'
  const { peak } = limits
  const rates = Object.entries(peak.flopsByPrecision).map(
    ([precision, flops]) => `${(flops / 1e12).toPrecision(3)} TFLOPS at ${precision}`,
  )
  return `The best possible is what ${peak.device} could give if nothing but the model's arithmetic and the reading of its weights took time: ${rates.join(', ')} and ${(peak.memoryBytesPerSecond / 1e9).toPrecision(3)} GB/s, both measured before the run by large products and a large copy; a text has ${light.meanTokens.toFixed(0)} tokens and ${(light.meanTextFlops / 1e9).toPrecision(3)} GFLOP on average. A target is reachable where it takes half of that at most, doubtful where it takes more, impossible where it takes more than all. The latency bound of several clients is that of a text alone. Targets marked (ours) are those of this package.`
}

function targetRow(
  { target, baseline, measured, verdict }: JudgedTarget,
  story: TuningStory,
  light: SpeedOfLight | undefined,
  thor: SpeedOfLight | undefined,
): string[] {
  const show = (value: number | undefined): string =>
    value === undefined ? `not measured: ${whyMissing(target)}` : formatMetric(target.metric, value)
  const limit = light === undefined ? undefined : limitOf(target, light)
  const thorLimit = thor === undefined ? undefined : limitOf(target, thor)
  const share =
    light === undefined || measured === undefined ? undefined : shareOfLimit(target, measured, light)
  return [
    target.name,
    formatWanted(target),
    limit === undefined ? 'no bound' : reachOf(target, light!)!,
    limit === undefined ? 'no bound' : formatMetric(target.metric, limit),
    show(baseline),
    show(measured),
    share === undefined ? 'no bound' : `${(100 * share).toPrecision(3)} %`,
    verdict === 'PASS' && target.metric === 'worstCosine' && story.begin.facts.hasSyntheticWeights
      ? 'PASS (synthetic weights: numerics, not retrieval quality)'
      : verdict,
    thorLimit === undefined
      ? 'no bound'
      : `${reachOf(target, thor!)!}: ${formatMetric(target.metric, thorLimit)}`,
  ]
}

function whyMissing({ metric, clients }: Target): string {
  if (metric === 'gpuBytes') return 'it runs on the CPU'
  return `no closed loop of ${clients} clients was run (--clients)`
}

/** Among the generated texts of the quality check. */
function retrievalRow(story: TuningStory): string[] {
  const check = winnerQuality(story).checks.find(({ name }) => name.startsWith('recall'))
  if (story.begin.facts.hasSyntheticWeights) {
    return toRetrievalRow('not measured: weights not available', 'not measured', '>= 0.95')
  }
  if (check === undefined)
    return toRetrievalRow('not measured: the winner was not judged', 'not measured', '>= 0.95')
  return toRetrievalRow(check.value.toFixed(3), check.passed ? 'PASS' : 'FAIL', `>= ${check.limit}`)
}

function toRetrievalRow(measured: string, verdict: string, wanted: string): string[] {
  return [
    "retrieval: neighbours as the reference's",
    wanted,
    'no bound',
    'no bound',
    'the reference',
    measured,
    'no bound',
    verdict,
    'no bound',
  ]
}

/** The plan's criteria that only a profile shows, and those of an engine on the CPU in their place. */
function profileRows({ end, profile, baselineProfile }: TuningStory): string[][] {
  const findBefore = (name: string): string => {
    if ('missing' in baselineProfile) return `not measured: ${baselineProfile.missing}`
    const found = baselineProfile.criteria.find((criterion) => criterion.name === name)
    return found?.value ?? "not measured: the baseline's engine has no such figure"
  }
  const onGpu = end.final.info.engine === 'tensorrt' || end.final.info.engine === 'cuda'
  const profiled =
    'missing' in profile
      ? []
      : profile.criteria.map(({ name, value, target, isMet }) =>
          toProfileRow({
            name: `${name}, ${profile.clients} clients${onGpu ? '' : ' (ours)'}`,
            wanted: target,
            before: findBefore(name),
            measured: value,
            verdict: isMet ? 'PASS' : 'FAIL',
          }),
        )
  if (onGpu && profiled.length > 0) return profiled
  const reason = onGpu ? `no profile: ${'missing' in profile ? profile.missing : ''}` : 'it runs on the CPU'
  const ofGpu = [
    ['GPU utilisation', '> 80 %'],
    ["FP8 GEMM, of the kernels' time", '> 50 %'],
    ['copies, of the busy time', '< 5 %'],
  ].map(([name, wanted]) => {
    const text = `not measured: ${reason}`
    return toProfileRow({
      name: name!,
      wanted: wanted!,
      before: text,
      measured: text,
      verdict: 'not measured',
    })
  })
  return [...ofGpu, ...profiled]
}

function toProfileRow(
  row: Readonly<Record<'name' | 'wanted' | 'before' | 'measured' | 'verdict', string>>,
): string[] {
  const { name, wanted, before, measured, verdict } = row
  return [name, wanted, 'no bound', 'no bound', before, measured, 'no bound', verdict, 'no bound']
}
