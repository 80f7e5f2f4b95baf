/** bench: latency and throughput of this machine or of any server, and what changed since. */
import { EmbedError } from '../errors.ts'
import { loadModelSpec } from '../model/spec.ts'
import { pullModel } from '../model/pull.ts'
import { startPipeline } from '../serving/pipeline/start-pipeline.ts'
import { createTokenizer } from '../serving/tokenizer/worker-tokenizer.ts'
import { loadBenchRecord, saveBenchRecord } from '../tuning/measure/bench-record.ts'
import { runBench } from '../tuning/measure/bench.ts'
import { compareRecords, compareTargets } from '../tuning/measure/compare-records.ts'
import { formatBench, formatComparisons } from '../tuning/measure/format-bench.ts'
import { createHttpTarget } from '../tuning/measure/http-target.ts'
import { createInProcessTarget } from '../tuning/measure/in-process-target.ts'
import type { LoadTarget } from '../tuning/measure/target.ts'
import { type CountTokens, createTokenCounter } from '../tuning/measure/workload.ts'
import { makeScenarios, readLoads } from './bench-scenarios.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'
import { packageVersion } from './tuned-key.ts'

export const benchCommand: Command = {
  name: 'bench',
  summary: 'Measure latency and throughput, in process or of any OpenAI or TEI server',
  usage: 'bench [--against URL ...] [--compare A.json B.json] [flags]',
  details: [
    '  akidb-embedding bench --save before.json                      this machine, without HTTP',
    '  akidb-embedding bench --against http://127.0.0.1:8080 --against tei=http://127.0.0.1:8081',
    '  akidb-embedding bench --texts queries.txt --rate 50           open loop: 50 requests a second, whatever comes back',
    '  akidb-embedding bench --compare after.json before.json        what changed, with intervals',
    '',
    'Prints a table, then the record as one JSON line. Give --model the model that the servers run: its tokenizer',
    'makes the texts and counts their tokens.',
  ],
  knobs: [
    'model',
    'engine',
    'precision',
    'threads',
    'streams',
    'maxBatchSize',
    'maxBatchTokens',
    'batchTimeoutMs',
    'apiKey',
    'cacheDir',
    'offline',
  ],
  flags: {
    against: {
      type: 'string',
      placeholder: '[name=]url',
      isRepeatable: true,
      description: 'Server to measure instead of this process; may be given several times',
    },
    'in-process': { type: 'boolean', description: 'Measure this process beside the servers' },
    texts: {
      type: 'string',
      placeholder: 'tokens|mix|file',
      isRepeatable: true,
      description:
        'Texts of so many tokens, of mixed lengths, or those of a file (.txt .jsonl .csv .parquet); may be given several times (default 64 and mix)',
    },
    'texts-per-request': {
      type: 'string',
      placeholder: 'number',
      description: 'Length of the lists (default 1)',
    },
    clients: {
      type: 'string',
      placeholder: 'n,n,...',
      description: 'Closed loops with so many clients each (default 1,4,16)',
    },
    rate: { type: 'string', placeholder: 'requests/s', description: 'Open loop instead of closed ones' },
    arrivals: {
      type: 'string',
      placeholder: 'poisson|constant',
      description: 'How the requests of an open loop come (default poisson)',
    },
    rounds: { type: 'string', placeholder: 'number', description: 'Rounds of each scenario (default 5)' },
    seconds: { type: 'string', placeholder: 'number', description: 'Length of a round (default 2)' },
    save: { type: 'string', placeholder: 'file', description: 'Keep the record' },
    compare: { type: 'boolean', description: 'Compare two records instead: CANDIDATE BASELINE' },
    json: { type: 'boolean', description: 'Print the JSON line only' },
  },
  async run(input) {
    const { flags, positionals } = input
    if (flags['compare'] === true) {
      const [candidate, baseline, ...more] = positionals
      if (candidate === undefined || baseline === undefined || more.length > 0) {
        throw new EmbedError('USAGE', { reason: '--compare takes two records: CANDIDATE BASELINE' })
      }
      const comparisons = compareRecords(await loadBenchRecord(candidate), await loadBenchRecord(baseline))
      if (comparisons.length === 0) {
        throw new EmbedError('USAGE', { reason: `${candidate} and ${baseline} have no scenario in common` })
      }
      if (flags['json'] !== true) say(formatComparisons(comparisons))
      say(JSON.stringify(comparisons))
      return 0
    }
    if (positionals.length > 0) {
      throw new EmbedError('USAGE', { reason: `bench takes no '${positionals[0]}'; see 'bench --help'` })
    }
    const record = await measure(input)
    if (flags['json'] !== true) {
      say(formatBench(record))
      const comparisons = compareTargets(record)
      if (comparisons.length > 0) say(`${formatComparisons(comparisons)}\n`)
    }
    say(JSON.stringify(record))
    if (flags['save'] !== undefined) await saveBenchRecord(flags['save'] as string, record)
    return 0
  },
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function measure(input: CommandInput) {
  const { config, flags, lists, signal } = input
  const servers = lists['against'] ?? []
  const rounds = readNumberFlag(flags, 'rounds', 5)
  const roundMs = readNumberFlag(flags, 'seconds', 2) * 1000
  const loads = readLoads(flags)
  const cacheDir = chooseCacheDir(input)
  const targets: LoadTarget[] = []
  const resources: AsyncDisposable[] = []
  const line = createProgressLine(process.stderr)
  try {
    for (const server of servers) {
      const [, name, url] = /^(?:([^=/]+)=)?(.+)$/.exec(server)!
      targets.push(
        await createHttpTarget(url!, { name, apiKey: config.apiKey, model: config.servedModelName }),
      )
    }
    let countTokens: CountTokens
    if (servers.length === 0 || flags['in-process'] === true) {
      const { pipeline, startup } = await startPipeline(config, {
        cacheDir,
        signal,
        cudaSearch: chooseCudaSearch(input),
      })
      resources.push(pipeline)
      for (const note of startup.notes) process.stderr.write(`${note}\n`)
      const { name, precision } = pipeline.engine.info
      targets.push(createInProcessTarget(`in process, ${name} ${precision}`, pipeline))
      countTokens = createTokenCounter(pipeline.tokenizer, pipeline.spec.maxTokens)
    } else {
      const { offline, revision, hfToken: token, hfEndpoint: endpoint } = config
      const model = await pullModel(config.model, { cacheDir, offline, revision, token, endpoint, signal })
      const spec = await loadModelSpec(model.folder, { id: model.id, cacheDir })
      const tokenizer = await createTokenizer({ tokenizerPath: spec.files.tokenizer, workerCount: 0 })
      resources.push(tokenizer)
      countTokens = createTokenCounter(tokenizer, spec.maxTokens)
    }
    return await runBench({
      targets,
      scenarios: await makeScenarios(input, loads, countTokens),
      rounds,
      roundMs,
      warmupMs: Math.min(1000, roundMs / 2),
      model: config.model,
      packageVersion,
      signal,
      onRound: ({ rounds: done, ofRounds }) => line.update(`round ${done} of ${ofRounds}`),
    })
  } finally {
    line.stop()
    for (const resource of [...targets, ...resources]) await resource[Symbol.asyncDispose]()
  }
}
