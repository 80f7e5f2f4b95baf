/** verify: whether a tuned configuration still gives what it gave when it was tuned. */
import { EmbedError } from '../errors.ts'
import { median } from '../tuning/measure/percentile.ts'
import { type Slice, toSlice } from '../tuning/tuner/side.ts'
import { createSideStarter } from '../tuning/tuner/side-process.ts'
import { assertTunedFits, readTunedFile } from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'
import { readTunedModel, sharedSettings } from './tuned-key.ts'

const rounds = 12

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'Measure a tuned configuration again and tell what drifted',
  usage: 'verify tuned.json [flags]',
  details: [
    'Exit code 1 when it is slower than its rounds let expect, or when its vectors are no longer those of the model.',
  ],
  knobs: ['minCosine', 'cacheDir', 'offline'],
  flags: {
    'round-ms': {
      type: 'string',
      placeholder: 'ms',
      description: 'Length of one round, as for tune (default 200)',
    },
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
    shared: sharedSettings(config),
    cacheDir: chooseCacheDir(input),
    cudaSearch: chooseCudaSearch(input),
    clients: Object.keys(tuned.measured).map((scenario) => Number.parseInt(scenario, 10)),
    roundMs: readNumberFlag(flags, 'round-ms', 200),
    qualityTexts: 64,
    signal,
  })
  const line = createProgressLine(process.stderr)
  await using side = await start(tuned.settings)
  const slices: Slice[] = []
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    line.update(`round ${round + 1} of ${rounds}`)
    slices.push(await side.measure())
  }
  const quality = await side.assess()
  line.stop()
  const now = toSlice(slices, median)
  let isSlower = false
  for (const [scenario, then] of Object.entries(tuned.measured)) {
    const { textsPerSecond } = now.scenarios[scenario]!
    const { low, high } = then.expected ?? { low: 0, high: Infinity }
    isSlower ||= textsPerSecond < low
    const verdict = textsPerSecond < low ? 'SLOWER' : textsPerSecond > high ? 'faster' : 'as expected'
    const expected =
      then.expected === undefined
        ? 'no interval recorded'
        : `expected ${low.toFixed(1)} to ${high.toFixed(1)}`
    process.stdout.write(
      `${verdict.padEnd(12)} ${scenario.padEnd(12)} ${textsPerSecond.toFixed(1)} texts/s, ${expected}, ${(textsPerSecond / then.textsPerSecond).toFixed(2)} times what it was\n`,
    )
  }
  const verdict = quality.passed ? 'pass' : 'FAIL'
  process.stdout.write(`${verdict.padEnd(12)} quality      worst cosine ${quality.worstCosine.toFixed(6)}\n`)
  return isSlower || !quality.passed ? 1 : 0
}
