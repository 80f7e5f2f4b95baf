/** serve: an HTTP server until it is told to stop. */
import { isatty } from 'node:tty'
import { type Config, knobs } from '../config/schema.ts'
import { EmbedError } from '../errors.ts'
import { findCudaLibrary } from '../hardware/machine/cuda-libraries.ts'
import { GpuMonitor } from '../hardware/machine/gpu-monitor.ts'
import { limitArenas, trimNativeHeap } from '../hardware/machine/native-heap.ts'
import { PipelineHost, type ServedPipeline } from '../serving/pipeline/pipeline-host.ts'
import { type StartOptions, hasSameModel, startPipeline } from '../serving/pipeline/start-pipeline.ts'
import { createServer } from '../serving/server/create-server.ts'
import { Credentials } from '../serving/server/security/credentials.ts'
import { createProfilePlugin } from '../tuning/profiler/server-plugin.ts'
import { assertTunedFits, readTunedFile } from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { createGpuMetrics } from './gpu-metrics.ts'
import { formatPlanProgress } from './plan-progress.ts'
import { createProgressBar, createProgressLine } from './progress-bar.ts'
import { findCupti } from './find-cupti.ts'
import { createReloader } from './reload.ts'
import { readTunedModel } from './tuned-key.ts'

export const serveCommand: Command = {
  name: 'serve',
  summary: 'Serve embeddings over HTTP (OpenAI and TEI dialects)',
  usage: 'serve [flags]',
  details: [
    '  akidb-embedding serve --model BAAI/bge-small-en-v1.5 --port 9000',
    '  curl -s localhost:9000/v1/embeddings -H "content-type: application/json" -d \'{"input": "hello"}\'',
  ],
  knobs: knobs.map((knob) => knob.key),
  flags: {
    tuned: {
      type: 'string',
      placeholder: 'file',
      description: 'Configuration that tune found; refused where it was found for something else',
    },
    quiet: { type: 'boolean', description: 'Print nothing but errors and the log' },
  },
  async run(input) {
    const { config, signal } = input
    const say = (text: string): void => {
      if (input.flags['quiet'] !== true) process.stdout.write(`${text}\n`)
    }
    limitArenas()
    let reload: (() => Promise<void>) | undefined
    // A terminal that hangs up ends the server, as everywhere; without one SIGHUP asks for a reload.
    if (!isatty(0)) process.on('SIGHUP', () => void reload?.())

    const bar = createProgressBar(process.stderr)
    const line = createProgressLine(process.stderr)
    const optionsFor = (chosen: Config): StartOptions => ({
      cacheDir: chooseCacheDir({ ...input, config: chosen }),
      signal,
      onProgress: (progress) => bar.update(progress),
      onBuildProgress: (progress) => line.update(formatPlanProgress(progress)),
      cudaSearch: chooseCudaSearch(input),
    })
    const start = async (chosen: Config): Promise<ServedPipeline> => {
      const started = await startPipeline(chosen, optionsFor(chosen)).finally(() => {
        bar.stop()
        line.stop()
      })
      trimNativeHeap()
      return { ...started, config: chosen }
    }
    if (config.profileAccess === 'admin' && config.apiKey === undefined && config.apiKeysFile === undefined) {
      const reason = 'profileAccess admin needs a key to ask for: set --api-key or --api-keys-file'
      throw new EmbedError('CONFIG_INVALID', { reason })
    }
    // A wrong key file or certificate is told before a model is loaded, not after.
    await Credentials.load(config)
    if (input.flags['tuned'] !== undefined) {
      const path = String(input.flags['tuned'])
      assertTunedFits(path, readTunedFile(path), (await readTunedModel(input)).key)
    }
    using gpuMonitor = new GpuMonitor({
      nvmlPath: findCudaLibrary('libnvidia-ml', chooseCudaSearch(input)).found?.path,
    })
    const first = await start(config).catch((error: unknown) => {
      if (signal.aborted) return undefined
      throw error
    })
    if (first === undefined) return 0
    const host = new PipelineHost(first)
    try {
      const server = await createServer({
        host,
        // What a machine without GPUs cannot tell is no metric.
        metricSources: gpuMonitor.read().length === 0 ? [] : createGpuMetrics(gpuMonitor),
        plugins:
          config.profileAccess === 'off'
            ? []
            : [createProfilePlugin({ host, findCupti: () => findCupti(chooseCudaSearch(input)), signal })],
      })
      const url = await server.listen()
      say(formatStartup(host.current, url))
      if (input.flags['quiet'] !== true) say(await runExample(host.current))
      reload = createReloader({
        host,
        server,
        loadConfig: input.reloadConfig,
        start,
        hasSameModel: (served, chosen) => hasSameModel(served, chosen, optionsFor(chosen)),
        onReloaded: (served, change) =>
          say(
            change === 'model'
              ? ['reloaded', ...describeModel(served)].join('\n')
              : 'reloaded the configuration; the model is the same and goes on',
          ),
        signal,
      })

      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve()
        else signal.addEventListener('abort', () => resolve(), { once: true })
      })
      say('stopping: answering what was accepted')
      const unanswered = await server.close()
      if (unanswered > 0) {
        // An engine that hangs would hold up its disposal as well; the end of the process frees it.
        throw new EmbedError('DRAIN_TIMEOUT', {
          unanswered,
          drainTimeoutMs: host.current.config.drainTimeoutMs,
        })
      }
    } catch (error) {
      if (!(error instanceof EmbedError) || error.code !== 'DRAIN_TIMEOUT') await host[Symbol.asyncDispose]()
      throw error
    }
    await host[Symbol.asyncDispose]()
    return 0
  },
}

function formatStartup(served: ServedPipeline, url: string): string {
  const { apiKey, apiKeysFile } = served.config
  const key =
    apiKey === undefined && apiKeysFile === undefined ? '' : `-H "authorization: Bearer $AKIDB_API_KEY" `
  return [
    ...describeModel(served),
    `ready    ${url} after ${process.uptime().toFixed(1)} s, API at ${url}/docs`,
    '',
    `try      curl -s ${url}/v1/embeddings ${key}-H 'content-type: application/json' -d '{"input": "The sky is blue"}'`,
    '',
  ].join('\n')
}

function describeModel({ pipeline, startup }: ServedPipeline): string[] {
  const { spec, engine } = pipeline
  const { name, runtimeVersion, precision, device } = engine.info
  const { golden, notes } = startup
  return [
    ...notes.map((note) => `note     ${note}`),
    `model    ${spec.id} (${startup.modelSource}), ${spec.dimensions} dimensions, ${spec.maxTokens} tokens, ${spec.pooling} pooling`,
    `engine   ${name} ${runtimeVersion} ${precision} on ${device}`,
    golden.source === 'none'
      ? 'checked  NOTHING: there is nothing to compare the vectors with, see the note above'
      : `checked  worst cosine ${golden.worstCosine.toFixed(6)} to ${golden.source} golden vectors (${golden.madeBy})`,
  ]
}

const question = 'How do I reset my password?'
const answers = [
  'I forgot my login, how can I get a new one?',
  'Our opening hours are nine to five.',
  'Der Mond kreist um die Erde.',
]

/** One worked example, computed by the pipeline that was just started. */
async function runExample({ pipeline }: ServedPipeline): Promise<string> {
  const { vectors } = await pipeline.embed({ inputs: [question, ...answers], truncation: 'right' })
  const [asked, ...others] = vectors
  const rows = others.map((vector, i) => {
    const similarity = vector.reduce((sum, value, k) => sum + value * asked![k]!, 0)
    return `           ${similarity.toFixed(3)}  ${answers[i]}`
  })
  return [`example  similarity to "${question}", computed by this server:`, ...rows, ''].join('\n')
}
