/** The figures of the end: baseline, untuned default and winner, and what the baseline is worth. */
import type { Block } from './blocks.ts'
import type { FinalComparison, Interval } from './journal.ts'
import type { Slice } from './side.ts'
import { isDefaultTaken } from './story.ts'

export function comparisonBlocks(final: FinalComparison): Block[] {
  return [
    {
      kind: 'text',
      text: `Baseline, untuned default and winner, measured in turn in ${final.rounds} rounds: the median rate, and percentiles over all answers. Ratios of rates, where more is better, with their 95 % interval (signed-rank, pairs of rounds); of latencies less is better.`,
    },
    {
      kind: 'table',
      head: [
        'closed loop',
        'measure',
        'baseline',
        'untuned',
        'winner',
        'winner / baseline',
        'winner / untuned',
      ],
      rows: final.gains.flatMap((gain) => comparisonRows(final, gain)),
    },
    ...plainLoopBlocks(final),
  ]
}

function comparisonRows(final: FinalComparison, gain: FinalComparison['gains'][number]): string[][] {
  const { baseline, untuned, winner } = final
  const { scenario } = gain
  const of = (slice: Slice) => slice.scenarios[scenario]!
  const ofUntuned = 'missing' in untuned ? undefined : of(untuned)
  const untunedRatio = (text: string | undefined): string =>
    isDefaultTaken(final) ? 'it is the untuned default' : (text ?? 'not measured')
  const why = 'missing' in untuned ? `not measured: ${untuned.missing}` : ''
  return [
    [
      scenario,
      'texts/s',
      of(baseline).textsPerSecond.toFixed(1),
      ofUntuned?.textsPerSecond.toFixed(1) ?? why,
      of(winner).textsPerSecond.toFixed(1),
      formatInterval(gain.overBaseline),
      untunedRatio(gain.overUntuned && formatInterval(gain.overUntuned)),
    ],
    ...(['p50Ms', 'p95Ms', 'p99Ms'] as const).map((metric) => [
      scenario,
      `${metric.slice(0, 3)} ms`,
      of(baseline)[metric].toFixed(2),
      ofUntuned?.[metric].toFixed(2) ?? 'not measured',
      of(winner)[metric].toFixed(2),
      (of(winner)[metric] / of(baseline)[metric]).toFixed(2),
      untunedRatio(ofUntuned && (of(winner)[metric] / ofUntuned[metric]).toFixed(2)),
    ]),
  ]
}

/** So that a gain over the baseline is none over a service that was made slow. */
function plainLoopBlocks({ plainLoop, baseline }: FinalComparison): Block[] {
  if (plainLoop === undefined) return []
  if ('missing' in plainLoop) {
    const text = `The baseline beside a plain loop over onnxruntime-node: not measured: ${plainLoop.missing}.`
    return [{ kind: 'text', text }]
  }
  const { scenario, textsPerSecond, baselineByPlain } = plainLoop
  return [
    {
      kind: 'text',
      text: 'Is the baseline a fair one? Beside it, in the same rounds and over the same texts, the loop that one writes first: tokenise, run onnxruntime-node, pool, normalise, one text after the other.',
    },
    {
      kind: 'table',
      head: [
        'closed loop',
        'measure',
        'plain loop',
        'baseline',
        'baseline / plain loop',
        'wanted',
        'verdict',
      ],
      rows: [
        [
          scenario,
          'texts/s',
          textsPerSecond.toFixed(1),
          baseline.scenarios[scenario]!.textsPerSecond.toFixed(1),
          formatInterval(baselineByPlain),
          'within 10 %',
          judgeFairness(baselineByPlain),
        ],
      ],
    },
  ]
}

function judgeFairness({ ratio, low, high }: Interval): string {
  if (ratio >= 0.9 && ratio <= 1.1) return 'PASS'
  return low > 1.1 || high < 0.9 ? 'FAIL' : 'doubtful: too much noise'
}

function formatInterval({ ratio, low, high }: Interval): string {
  return `${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`
}
