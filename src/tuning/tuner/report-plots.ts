/** The pictures of a run. */
import type { Bar, Block } from './blocks.ts'
import type { TunedProfile } from './winner-profile.ts'
import { type TuningStory, formatSettings, isDefaultTaken, keptSteps } from './story.ts'
import { gpuBytesOf } from './targets.ts'

export function plotBlocks(story: TuningStory): Block[] {
  const { final } = story.end
  const scenarios = Object.keys(final.winner.scenarios)
  const sides = [
    { name: 'baseline', slice: final.baseline },
    // Where the default was taken it is the winner.
    ...('missing' in final.untuned || isDefaultTaken(final)
      ? []
      : [{ name: 'untuned', slice: final.untuned }]),
    { name: 'winner', slice: final.winner },
  ]
  return [
    {
      kind: 'curves',
      title: 'Throughput and latency, a point for each number of clients',
      x: 'texts/s',
      y: 'p95, ms',
      curves: sides.map(({ name, slice }) => ({
        label: name,
        isBefore: name !== 'winner',
        points: scenarios.map((scenario) => {
          const { textsPerSecond, p95Ms } = slice.scenarios[scenario]!
          return { x: textsPerSecond, y: p95Ms, label: scenario }
        }),
      })),
    },
    {
      kind: 'bars',
      title: 'texts/s, more is better',
      bars: scenarios.flatMap((scenario) =>
        sides.map(({ name, slice }): Bar => {
          const value = slice.scenarios[scenario]!.textsPerSecond
          return { label: `${scenario}, ${name}`, value, text: value.toFixed(1), isBefore: name !== 'winner' }
        }),
      ),
    },
    ...latencyByStage(story),
    waterfall(story),
    ...qualityByPrecision(story),
    ...profileBlocks(story),
  ]
}

/** As each was measured beside its successor, so the machine's mood is in it. */
function latencyByStage(story: TuningStory): Block[] {
  const scenario = Object.keys(story.end.final.winner.scenarios)[0]!
  const steps = [
    { label: 'baseline', slice: story.baseline.slice },
    ...keptSteps(story).map(({ stage, change, result }) => ({
      label: `${stage}: ${formatSettings(change)}`,
      slice: result.candidate!,
    })),
  ]
  const bars = steps.flatMap(({ label, slice }, i) =>
    (['p50Ms', 'p95Ms'] as const).map((metric): Bar => {
      const value = slice.scenarios[scenario]![metric]
      const name = `${label}, ${metric.slice(0, 3)}`
      return { label: name, value, text: `${value.toFixed(2)} ms`, isBefore: i === 0 }
    }),
  )
  return [{ kind: 'bars', title: `Latency with ${scenario} after each change that was kept`, bars }]
}

function waterfall(story: TuningStory): Block {
  let multiple = 1
  const bars: Bar[] = [{ label: 'baseline', value: 1, text: '1.00', isBefore: true }]
  for (const { change, result } of keptSteps(story)) {
    const from = multiple
    multiple *= result.comparison!.ratio
    bars.push({ label: formatSettings(change), from, value: multiple, text: multiple.toFixed(2) })
  }
  return {
    kind: 'bars',
    title:
      'Texts/s after each change that was kept, as a multiple of the baseline (product of the ratios that were measured)',
    bars,
  }
}

/** Only what was faster had its vectors judged. */
function qualityByPrecision({ baseline, experiments, end }: TuningStory): Block[] {
  const judged = [
    { label: `${baseline.info.engine} ${baseline.info.precision}`, cosine: baseline.quality.worstCosine },
    ...experiments.flatMap(({ id, result: { info, quality } }) =>
      info === undefined || quality === undefined
        ? []
        : [{ label: `${id}: ${info.engine} ${info.precision}`, cosine: quality.worstCosine }],
    ),
    ...(end.final.instead === undefined
      ? []
      : [{ label: 'untuned', cosine: end.final.instead.quality.worstCosine }]),
  ]
  const bars = judged.map(({ label, cosine }): Bar => {
    return { label, value: Math.max(0, 1 - cosine), text: `cosine ${cosine.toFixed(6)}` }
  })
  return [
    { kind: 'bars', title: '1 - worst cosine to the reference, less is better (0.01 is the limit)', bars },
  ]
}

function profileBlocks({ baselineProfile, profile, end }: TuningStory): Block[] {
  const sides = [
    { name: 'baseline', profile: baselineProfile },
    { name: 'winner', profile },
  ] as const
  const missing = sides.flatMap((side): Block[] => {
    const reason = whyMissing(side.profile)
    if (reason === undefined) return []
    return [{ kind: 'text', text: `Where the ${side.name}'s time goes: not measured: ${reason}.` }]
  })
  const measured = sides.flatMap((side) =>
    'missing' in side.profile ? [] : [{ name: side.name, profile: side.profile }],
  )
  const bars = measured.flatMap(({ name, profile: { shares } }) =>
    shares.map(
      ({ name: part, share }): Bar => ({
        label: `${name}: ${part}`,
        value: share,
        text: `${(100 * share).toFixed(1)} %`,
        isBefore: name === 'baseline',
      }),
    ),
  )
  const clients = measured[0]?.profile.clients
  const onGpu = gpuBytesOf(end.final.info) !== undefined
  return [
    ...missing,
    ...(bars.length === 0
      ? []
      : [
          {
            kind: 'bars' as const,
            title: `Where the time goes with ${clients} clients, by class of ${onGpu ? "the GPU's kernels" : "the graph's nodes"} (product: matrix products)`,
            bars,
          },
        ]),
    ...measured.flatMap(({ name, profile: { advice = [], timelineSvg } }): Block[] => [
      ...(timelineSvg === undefined
        ? []
        : [{ kind: 'picture' as const, title: `A batch of the ${name} on the GPU`, svg: timelineSvg }]),
      // What to do about the baseline is what the tuner did.
      ...(name === 'baseline'
        ? []
        : advice.map(({ text, reason }): Block => ({ kind: 'text', text: `Next: ${text}; ${reason}.` }))),
    ]),
  ]
}

function whyMissing(profile: TunedProfile): string | undefined {
  if ('missing' in profile) return profile.missing
  return profile.shares.length === 0 ? 'its engine does not tell' : undefined
}
