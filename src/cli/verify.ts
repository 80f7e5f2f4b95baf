/** verify: whether a tuned configuration still gives what it gave when it was tuned. */
import { EmbedError } from '../errors.ts'
import { readMachine, sampleMachine } from '../tuning/measure/machine-state.ts'
import { createSideStarter } from '../tuning/tuner/side-process.ts'
import { assertTunedFits, readTunedFile } from '../tuning/tuner/tuned-config.ts'
import { type Verification, verifyTuned } from '../tuning/tuner/verify-tuned.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'
import { readTunedModel, sharedSettings } from './tuned-key.ts'

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'Measure a tuned configuration again and tell what drifted',
  usage: 'verify tuned.json [flags]',
  details: [
    'What is slower than the rounds of the run let expect is measured again, twice at most: other work passes. Exit code 1 when it',
    'stays slower, or when its vectors are no longer those of the model. The last line is the record as JSON.',
  ],
  knobs: ['minCosine', 'cacheDir', 'offline'],
  flags: {
    'round-ms': {
      type: 'string',
      placeholder: 'ms',
      description: 'Length of one round (default: that of the run)',
    },
    json: { type: 'boolean', description: 'Print the JSON line only' },
  },
  async run(input) {
    try {
      return await verify(input)
    } catch (error) {
      // What was under way says that it was ended.
      if (input.signal.aborted) return 130
      throw error
    }
  },
}

async function verify(input: CommandInput): Promise<number> {
  const { positionals, flags, signal } = input
  const [path, ...more] = positionals
  if (path === undefined || more.length > 0) {
    throw new EmbedError('USAGE', {
      reason: 'verify takes one tuned configuration: verify tuned/tuned.json',
    })
  }
  const tuned = readTunedFile(path)
  const config = { ...input.config, model: tuned.settings.model ?? input.config.model }
  assertTunedFits(path, tuned, (await readTunedModel({ ...input, config })).key)
  const start = createSideStarter({
    shared: {
      ...sharedSettings(config),
      // As tune measured it: the default builds no plan for itself.
      ...(tuned.id === 'untuned' ? { buildEngines: false } : {}),
    },
    cacheDir: chooseCacheDir(input),
    cudaSearch: chooseCudaSearch(input),
    clients: Object.keys(tuned.measured).map((scenario) => Number.parseInt(scenario, 10)),
    roundMs: readNumberFlag(flags, 'round-ms', tuned.roundMs ?? 200),
    qualityTexts: 64,
    signal,
  })
  const line = createProgressLine(process.stderr)
  const loadAverageBefore = sampleMachine().loadAverage
  await using side = await start(tuned.settings)
  const verification = await verifyTuned(tuned.measured, side, {
    signal,
    onRound: (visit, round, ofRounds) => line.update(`visit ${visit}: round ${round} of ${ofRounds}`),
  })
  line.stop()
  const loadAverage = [loadAverageBefore, sampleMachine().loadAverage]
  if (flags['json'] !== true) process.stdout.write(formatVerification(verification, loadAverageBefore))
  process.stdout.write(
    `${JSON.stringify({ date: new Date().toISOString(), id: tuned.id, loadAverage, ...verification })}\n`,
  )
  return verification.passed ? 0 : 1
}

function formatVerification({ visits, scenarios, quality }: Verification, loadAverage: number): string {
  const rows = scenarios.map(({ scenario, textsPerSecond, ratio, expected, verdict }) => {
    const interval =
      expected === undefined ? '' : `, expected ${expected.low.toFixed(1)} to ${expected.high.toFixed(1)}`
    return `${verdict.padEnd(12)} ${scenario.padEnd(12)} ${textsPerSecond.toFixed(1)} texts/s${interval}, ${ratio.toFixed(2)} times what it was`
  })
  const word = quality.passed ? 'pass' : 'FAIL'
  const { usableCores } = readMachine()
  const isBusy = loadAverage > usableCores / 2
  return [
    ...rows,
    `${word.padEnd(12)} quality      worst cosine ${quality.worstCosine.toFixed(6)}`,
    `${'note'.padEnd(12)} ${visits === 1 ? 'measured once' : `measured ${visits} times, since it was slower at first`}; load average ${loadAverage.toFixed(2)} before${isBusy ? `: busy for ${usableCores} cores, so what is slower may be its other work` : ''}`,
    '',
  ].join('\n')
}
