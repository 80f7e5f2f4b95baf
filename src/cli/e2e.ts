/** e2e: latency, throughput, concurrency, memory and quality of one configuration, judged, as one command. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbedError, toReason } from '../errors.ts'
import { hasSyntheticWeights } from '../model/synthetic-weights.ts'
import type { EmbeddingPipeline } from '../serving/pipeline/embedding-pipeline.ts'
import { startPipeline } from '../serving/pipeline/start-pipeline.ts'
import { type Scenario, runBench } from '../tuning/measure/bench.ts'
import { createInProcessTarget } from '../tuning/measure/in-process-target.ts'
import { makeMixedWorkload, createTokenCounter } from '../tuning/measure/workload.ts'
import { judgePipeline } from '../tuning/quality/assess-pipeline.ts'
import { makeQualityTexts } from '../tuning/quality/quality-texts.ts'
import { type Acceptance, buildAcceptanceReport, judgeAcceptance } from '../tuning/tuner/acceptance.ts'
import { renderHtml, renderMarkdown } from '../tuning/tuner/render-report.ts'
import { defaultTargets, readTargets } from '../tuning/tuner/targets.ts'
import { assertTunedFits, readTunedFile } from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import { readClients } from './clients-flag.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'
import { packageVersion, readTunedModel } from './tuned-key.ts'

export const e2eCommand: Command = {
  name: 'e2e',
  summary: 'Measure and judge one configuration end to end, with a completion report',
  usage: 'e2e [--tuned file] [--targets file] [--output folder] [flags]',
  details: [
    '  akidb-embedding e2e --tuned tuned/tuned.json --output e2e',
    '',
    'Latency of single texts, throughput of lists, concurrent clients, memory and quality. Writes results.json,',
    'completion.md and completion.html; exit code 1 when a target was missed or the vectors are not those of the model.',
  ],
  knobs: [
    'model',
    'engine',
    'precision',
    'threads',
    'streams',
    'maxBatchSize',
    'minCosine',
    'cacheDir',
    'offline',
  ],
  flags: {
    tuned: { type: 'string', placeholder: 'file', description: 'Configuration that tune found' },
    targets: { type: 'string', placeholder: 'file', description: 'JSON list of targets to judge by' },
    output: { type: 'string', placeholder: 'folder', description: 'Where the results go (default e2e)' },
    clients: {
      type: 'string',
      placeholder: 'n,n,...',
      description: 'Closed loops to measure with (default 1,4,8,16)',
    },
    rounds: { type: 'string', placeholder: 'number', description: 'Rounds of each load (default 5)' },
    seconds: { type: 'string', placeholder: 'number', description: 'Length of a round (default 2)' },
  },
  async run(input) {
    const { config, flags, positionals, signal } = input
    if (positionals.length > 0) {
      throw new EmbedError('USAGE', { reason: `e2e takes no '${positionals[0]}'; see 'e2e --help'` })
    }
    const targets =
      flags['targets'] === undefined ? defaultTargets : await readTargets(String(flags['targets']))
    const clients = readClients(flags, '1,4,8,16')
    const { spec, key } = await readTunedModel(input)
    const tuned = flags['tuned'] === undefined ? undefined : readTunedFile(String(flags['tuned']))
    if (tuned !== undefined) assertTunedFits(String(flags['tuned']), tuned, key)
    const folder = await makeOutputFolder(String(flags['output'] ?? 'e2e'))
    const { pipeline, startup } = await startPipeline(config, {
      cacheDir: chooseCacheDir(input),
      signal,
      cudaSearch: chooseCudaSearch(input),
    })
    await using owned = pipeline
    for (const note of startup.notes) process.stderr.write(`${note}\n`)
    const { name, precision, device, runtimeVersion, memoryBytes } = owned.engine.info
    const bench = await measure(input, owned, clients)
    const acceptance = judgeAcceptance(
      {
        date: new Date().toISOString(),
        packageVersion,
        model: spec.id,
        settings: tuned?.settings ?? {},
        info: { engine: name, precision, device, runtimeVersion, memoryBytes, modelHash: spec.contentHash },
        quality: await assess(input, owned),
        hasSyntheticWeights: await hasSyntheticWeights(spec),
        bench,
      },
      targets,
    )
    await writeAcceptance(folder, acceptance)
    for (const { target, verdict } of acceptance.targets) {
      process.stdout.write(`${verdict.padEnd(12)} ${target.name}\n`)
    }
    process.stdout.write(
      `${acceptance.quality.passed ? 'PASS' : 'FAIL'}         quality\n\nreport       ${join(folder, 'completion.html')}\n`,
    )
    return acceptance.passed ? 0 : 1
  },
}

async function measure(input: CommandInput, pipeline: EmbeddingPipeline, clients: readonly number[]) {
  const { flags, signal, config } = input
  const countTokens = createTokenCounter(pipeline.tokenizer, pipeline.spec.maxTokens)
  const single = await makeMixedWorkload({ countTokens })
  const lists = await makeMixedWorkload({ countTokens, textsPerRequest: 32 })
  const scenarios: Scenario[] = [
    ...clients.map((count): Scenario => {
      const name = `${count} client${count === 1 ? '' : 's'}`
      return { name, workload: single, load: { kind: 'closed', clients: count } }
    }),
    { name: '1 client, lists of 32', workload: lists, load: { kind: 'closed', clients: 1 } },
  ]
  const roundMs = readNumberFlag(flags, 'seconds', 2) * 1000
  const line = createProgressLine(process.stderr)
  await using target = createInProcessTarget('this process', pipeline)
  try {
    return await runBench({
      targets: [target],
      scenarios,
      rounds: readNumberFlag(flags, 'rounds', 5),
      roundMs,
      warmupMs: Math.min(1000, roundMs / 2),
      model: config.model,
      packageVersion,
      signal,
      onRound: ({ rounds, ofRounds }) => line.update(`round ${rounds} of ${ofRounds}`),
    })
  } finally {
    line.stop()
  }
}

async function assess(input: CommandInput, pipeline: EmbeddingPipeline): Promise<Acceptance['quality']> {
  const { config, signal } = input
  const line = createProgressLine(process.stderr)
  try {
    const { report, checks, passed } = await judgePipeline({
      pipeline,
      config,
      texts: makeQualityTexts(),
      cacheDir: chooseCacheDir(input),
      signal,
      onText: (what, done, of) => line.update(`quality: ${what} ${done} of ${of}`),
    })
    return { passed, worstCosine: report.worstCosine, checks }
  } finally {
    line.stop()
  }
}

async function makeOutputFolder(folder: string): Promise<string> {
  try {
    await mkdir(folder, { recursive: true })
    return folder
  } catch (cause) {
    const fix = 'give --output another folder'
    throw new EmbedError('FILE_UNWRITABLE', { path: folder, reason: toReason(cause), fix }, { cause })
  }
}

async function writeAcceptance(folder: string, acceptance: Acceptance): Promise<void> {
  const title = `End to end: ${acceptance.model}`
  const blocks = buildAcceptanceReport(acceptance)
  await writeFile(join(folder, 'results.json'), `${JSON.stringify(acceptance, null, 1)}\n`)
  await writeFile(join(folder, 'completion.md'), renderMarkdown(title, blocks))
  await writeFile(join(folder, 'completion.html'), renderHtml(title, blocks))
}
