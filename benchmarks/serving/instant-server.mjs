// The real server with an engine that takes no time: what is left is the server's own work.
//   node benchmarks/serving/instant-server.mjs [--stall] --port 7830 [any flag of `serve`]
// --stall: the engine never answers, so that a queue once full stays full.
import { homedir } from 'node:os'
import { parseCommandLine } from '../../dist/cli/command.js'
import { serveCommand } from '../../dist/cli/serve.js'
import { defaultCacheDir } from '../../dist/model/cache-dir.js'
import { pullModel } from '../../dist/model/pull.js'
import { loadModelSpec } from '../../dist/model/spec.js'
import { EmbeddingPipeline } from '../../dist/serving/pipeline/embedding-pipeline.js'
import { PipelineHost } from '../../dist/serving/pipeline/pipeline-host.js'
import { createServer } from '../../dist/serving/server/create-server.js'
import { createTokenizer } from '../../dist/serving/tokenizer/worker-tokenizer.js'

const flags = process.argv.slice(2)
const isStalled = flags[0] === '--stall'
const { config } = parseCommandLine(serveCommand, isStalled ? flags.slice(1) : flags, process.env)
const cacheDir = defaultCacheDir(process.env, homedir())
const model = await pullModel(config.model, { cacheDir })
const spec = await loadModelSpec(model.folder, { id: model.id, cacheDir })
const tokenizer = await createTokenizer({ tokenizerPath: spec.files.tokenizer, workerCount: 0 })
const { dimensions } = spec

const engine = {
  info: {
    name: 'instant',
    device: 'none',
    precision: 'fp32',
    runtimeVersion: '1',
    dimensions,
    maxTokens: spec.maxTokens,
    maxBatchSize: config.maxBatchSize,
    memoryBytes: 0,
    outputs: ['pooled'],
    concurrency: 1,
  },
  embed({ cumulativeLengths }) {
    if (isStalled) return new Promise(() => undefined)
    const rows = cumulativeLengths.length - 1
    return Promise.resolve({
      values: new Float32Array(rows * dimensions).fill(0.05),
      rows,
      dimensions,
      normalized: false,
      nonFiniteSequences: [],
      inferenceNs: 0n,
    })
  },
  [Symbol.asyncDispose]: () => Promise.resolve(),
}

const pipeline = new EmbeddingPipeline({ spec, tokenizer, engine }, { ...config, concurrency: 1 })
const startup = {
  version: '0',
  modelSource: model.source,
  revision: undefined,
  golden: { worstCosine: 1, source: 'none', madeBy: 'none' },
  notes: [],
  durationMs: 0,
}
const host = new PipelineHost({ pipeline, startup, config })
const server = await createServer({ host })
console.log(await server.listen())
process.once('SIGTERM', () => void server.close().then(() => process.exit(0)))
