/** serve: an HTTP server until it is told to stop. */
import { EmbedError } from '../errors.ts'
import { createServer } from '../serving/server/create-server.ts'
import type { EmbeddingPipeline } from '../serving/pipeline/embedding-pipeline.ts'
import { type StartupReport, startPipeline } from '../serving/pipeline/start-pipeline.ts'
import type { Command } from './command.ts'
import { createProgressBar } from './progress-bar.ts'
import { chooseCacheDir } from './cache-dir.ts'
import { knobs } from '../config/schema.ts'

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
    quiet: { type: 'boolean', description: 'Print nothing but errors and the log' },
  },
  async run(input) {
    const { config, signal } = input
    const say = (text: string): void => {
      if (input.flags['quiet'] !== true) process.stdout.write(`${text}\n`)
    }
    const bar = createProgressBar(process.stderr)
    const { pipeline, startup } = await startPipeline(config, {
      cacheDir: chooseCacheDir(input),
      signal,
      onProgress: (progress) => bar.update(progress),
    }).finally(() => bar.stop())
    await using owned = pipeline
    await using server = await createServer({ pipeline, startup, config })
    const url = await server.listen()
    say(formatStartup(owned, startup, url))
    if (input.flags['quiet'] !== true) say(await runExample(url))

    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    say('stopping: answering what was accepted')
    await server.close()
    return 0
  },
}

function formatStartup(pipeline: EmbeddingPipeline, startup: StartupReport, url: string): string {
  const { spec, engine } = pipeline
  const { name, runtimeVersion, precision, device } = engine.info
  const { golden, notes } = startup
  return [
    ...notes.map((note) => `note     ${note}`),
    `model    ${spec.id} (${startup.modelSource}), ${spec.dimensions} dimensions, ${spec.maxTokens} tokens, ${spec.pooling} pooling`,
    `engine   ${name} ${runtimeVersion} ${precision} on ${device}`,
    `checked  worst cosine ${golden.worstCosine.toFixed(6)} to ${golden.source} golden vectors (${golden.madeBy})`,
    `ready    ${url} after ${process.uptime().toFixed(1)} s, API at ${url}/docs`,
    '',
    'try      ' +
      `curl -s ${url}/v1/embeddings -H 'content-type: application/json' -d '{"input": "The sky is blue"}'`,
    '',
  ].join('\n')
}

const question = 'How do I reset my password?'
const answers = [
  'I forgot my login, how can I get a new one?',
  'Our opening hours are nine to five.',
  'Der Mond kreist um die Erde.',
]

/** One worked example, computed by the server that was just started, over HTTP. */
async function runExample(url: string): Promise<string> {
  const response = await fetch(`${url}/embed`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: [question, ...answers], truncate: true }),
  })
  const body = (await response.json()) as number[][] & { error?: string }
  if (!response.ok)
    throw new EmbedError('INTERNAL', { reason: `the example got ${response.status}: ${body.error}` })
  const [asked, ...others] = body
  const rows = others.map((vector, i) => {
    const similarity = vector.reduce((sum, value, k) => sum + value * asked![k]!, 0)
    return `           ${similarity.toFixed(3)}  ${answers[i]}`
  })
  return [`example  similarity to "${question}", computed by this server:`, ...rows, ''].join('\n')
}
