/** The pictures of a run. */
import type { Bar, Block } from './blocks.ts'
import { type TuningStory, formatSettings, winningSteps } from './story.ts'

export function plotBlocks(story: TuningStory): Block[] {
  const { final } = story.end
  const scenarios = Object.keys(final.winner.scenarios)
  const sides = [
    { name: 'baseline', slice: final.baseline },
    // Where the default was taken it is the winner.
    ...('missing' in final.untuned || final.instead !== undefined
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
    ...profileShares(story),
  ]
}

/** As each was measured beside its successor, so the machine's mood is in it. */
function latencyByStage(story: TuningStory): Block[] {
  const scenario = Object.keys(story.end.final.winner.scenarios)[0]!
  const steps = [
    { label: 'baseline', slice: story.baseline.slice },
    ...winningSteps(story).map(({ stage, change, result }) => ({
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
  for (const { change, result } of winningSteps(story)) {
    const from = multiple
    multiple *= result.comparison!.ratio
    bars.push({ label: formatSettings(change), from, value: multiple, text: multiple.toFixed(2) })
  }
  return {
    kind: 'bars',
    title: 'Texts/s after each change that was kept, as a multiple of the baseline',
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

function profileShares({ profile, end }: TuningStory): Block[] {
  if ('missing' in profile) {
    return [{ kind: 'text', text: `Where the winner's time goes: not measured: ${profile.missing}.` }]
  }
  const { engine } = end.final.info
  if (profile.shares.length === 0) {
    const text = `Where the winner's time goes: not measured: the engine ${engine} does not tell.`
    return [{ kind: 'text', text }]
  }
  const bars = profile.shares.map(({ name, share }): Bar => {
    return { label: name, value: share, text: `${(100 * share).toFixed(1)} %` }
  })
  const parts = engine === 'tensorrt' || engine === 'cuda' ? 'kernels' : 'nodes'
  return [
    {
      kind: 'bars',
      title: `Where the winner's time goes, by its ${parts}, ${profile.clients} clients`,
      bars,
    },
  ]
}
