/** One schema gives the types, the validation, the command line flags, the environment variables, the table in
 * docs/configuration.md and (through `tunable`) the tuner's search space. */
import { type Static, Type } from 'typebox'
import { choice, flag, integer, type KnobExtras, string } from './knob.ts'
import { tensorrtKnobs } from './tensorrt-knobs.ts'

export const configSchema = Type.Object(
  {
    // model
    model: string('Model to serve: a hub name or a local folder', {
      default: 'sentence-transformers/all-MiniLM-L6-v2',
      placeholder: 'name|folder',
    }),
    revision: Type.Optional(string('Branch, tag or commit of the model on the hub (default main)')),
    cacheDir: Type.Optional(
      string('Where models, runtimes and engines are kept (default $XDG_CACHE_HOME/akidb-embedding)', {
        placeholder: 'folder',
      }),
    ),
    offline: flag('Use only what is in the cache; never open a connection to fetch something'),
    hfToken: Type.Optional(
      string('Token for gated models on the hub', { secret: true, variable: 'HF_TOKEN' }),
    ),
    hfEndpoint: Type.Optional(
      string('Base URL of the hub or of a mirror', { placeholder: 'url', variable: 'HF_ENDPOINT' }),
    ),
    // engine
    engine: choice(
      ['auto', 'onnx', 'openvino', 'tensorrt', 'cuda'],
      'Engine that runs the model; auto takes the fastest one that starts',
      {
        default: 'auto',
        tunable: ['onnx', 'openvino', 'tensorrt', 'cuda'],
      },
    ),
    precision: choice(
      ['auto', 'fp32', 'bf16', 'fp16', 'fp8', 'fp8-rowwise'],
      'Arithmetic of the engine; auto takes bf16 where the machine has it and the golden vectors agree, else fp32; fp8 needs a GPU, fp8-rowwise the engine cuda',
      { default: 'auto', tunable: ['fp32', 'bf16', 'fp8', 'fp8-rowwise', 'fp16'] },
    ),
    minCosine: Type.Number({
      description: 'Worst cosine to the fp32 golden vectors that a precision below fp32 may have',
      default: 0.99,
      minimum: 0,
      maximum: 1,
    }),
    threads: Type.Optional(
      integer('Threads of the engine (default: the CPUs this process may use)', {
        minimum: 1,
        maximum: 1024,
        unit: 'threads',
      }),
    ),
    streams: Type.Optional(
      integer(
        'Batches that the engine runs at once, each on its share of the threads; a text that comes alone gets all threads (default: as many as threads, at most 8)',
        { minimum: 1, maximum: 64, unit: 'batches', tunable: [1, 2, 4, 8] },
      ),
    ),
    gpuMemoryBytes: Type.Optional(
      integer(
        "Most of the GPU's memory that may be in use, others' included: the native engine takes fewer rows a product, then fewer tokens a pass, then shorter texts (default: all)",
        { minimum: 2 ** 28, unit: 'bytes' },
      ),
    ),
    fetchRuntime: flag('Fetch the OpenVINO runtime into the cache when none is found'),
    openvinoLibrary: Type.Optional(
      string('Path of libopenvino_c.so, when it is not where doctor looks', { placeholder: 'file' }),
    ),
    // tensorrt
    ...tensorrtKnobs,
    // batching
    maxBatchSize: integer('Most sequences in one batch', {
      default: 32,
      minimum: 1,
      maximum: 4096,
      unit: 'sequences',
      tunable: [4, 8, 16, 32, 64],
    }),
    maxBatchTokens: integer('Most tokens in one batch, padding included', {
      default: 4096,
      minimum: 16,
      maximum: 1048576,
      unit: 'tokens',
      tunable: [512, 1024, 2048, 4096, 8192, 16384],
    }),
    batchTimeoutMs: Type.Number({
      description: 'Longest wait for a fuller batch while the engine is busy; an idle engine never waits',
      default: 5,
      minimum: 0,
      maximum: 1000,
      tunable: [0, 1, 2, 5, 10],
    }),
    adaptiveBatching: Type.Boolean({
      description:
        'Wait for a fuller batch only where the requests expected meanwhile save more than the wait costs; false waits for the whole batchTimeoutMs',
      default: true,
      tunable: [true, false],
    }),
    targetP95Ms: Type.Optional(
      Type.Number({
        description:
          'Latency objective: batches are kept small enough for it, and what could not be answered in time is refused with 429',
        minimum: 1,
        maximum: 3_600_000,
      }),
    ),
    priorityHeadStartMs: Type.Number({
      description: 'A request of high priority overtakes normal ones that came up to this long before it',
      default: 1000,
      minimum: 0,
      maximum: 3_600_000,
    }),
    maxQueuedRequests: integer('Requests that may wait; more are refused with 429', {
      default: 500,
      minimum: 1,
      unit: 'requests',
    }),
    maxQueuedTokens: integer(
      'Tokens that may wait; more are refused with 429, a request larger than all of it with 413',
      {
        default: 1048576,
        minimum: 16,
        unit: 'tokens',
      },
    ),
    requestTimeoutMs: integer('Longest time from arrival to answer; later it is 504', {
      default: 60000,
      minimum: 1,
    }),
    // tokenizer
    tokenizerWorkers: integer(
      'Tokenizer threads for long texts and lists, started by the first; 0 needs none',
      {
        default: 1,
        minimum: 0,
        maximum: 64,
        unit: 'threads',
      },
    ),
    truncation: choice(
      ['auto', 'none', 'right', 'left'],
      "Texts over the model's length: none refuses, right drops the end, left the beginning, auto follows the dialect (OpenAI none, the others right)",
      { default: 'auto' },
    ),
    defaultPromptName: Type.Optional(
      string(
        "Name of the model's prompt that is put before each text whose request names none (default: the model's own choice)",
        { placeholder: 'name' },
      ),
    ),
    defaultPrompt: Type.Optional(
      string(
        "Text that is put before each text whose request names no prompt, where the model's prompts do not have it",
      ),
    ),
    maxTextChars: integer('Longest text; a longer one is refused before it costs a tokenisation', {
      default: 2_000_000,
      minimum: 1,
      unit: 'characters',
    }),
    // server
    host: string('Address to listen on', { default: '127.0.0.1', needsRestart: true }),
    port: integer('Port to listen on; 0 takes a free one', {
      default: 8080,
      minimum: 0,
      maximum: 65535,
      needsRestart: true,
    }),
    strictModel: flag("Answer 404 when a request's model is not the one served, instead of serving it"),
    servedModelName: Type.Optional(string("Name given in answers instead of the model's own")),
    maxInputs: integer('Most inputs in one request', { default: 2048, minimum: 1, unit: 'inputs' }),
    maxTokenOutputBytes: integer(
      'Most bytes of vectors, 4 a number, for one request to /embed_all, whose answer has a vector for each token',
      { default: 64 * 1024 * 1024, minimum: 1024 },
    ),
    maxBodyBytes: integer('Largest request body', {
      default: 32 * 1024 * 1024,
      minimum: 1024,
      needsRestart: true,
    }),
    maxConnections: integer('Most open connections; one more is closed at once', {
      default: 10_000,
      minimum: 1,
      unit: 'connections',
      needsRestart: true,
    }),
    headersTimeoutMs: integer("Longest time for a request's headers to arrive; later it is 408", {
      default: 20_000,
      minimum: 100,
      needsRestart: true,
    }),
    receiveTimeoutMs: integer('Longest time for a whole request to arrive, body included; later it is 408', {
      default: 60_000,
      minimum: 100,
      needsRestart: true,
    }),
    keepAliveTimeoutMs: integer(
      'Longest time that an idle connection stays open; keep it above that of a balancer in front',
      { default: 75_000, minimum: 100, needsRestart: true },
    ),
    sendTimeoutMs: integer(
      'Longest time in which a client may take nothing of its answer; then the connection is closed',
      { default: 60_000, minimum: 100 },
    ),
    // security
    apiKey: Type.Optional(
      string('A key that requests must bring as Authorization: Bearer or x-api-key', { secret: true }),
    ),
    apiKeysFile: Type.Optional(
      string('File with more keys, one a line, # for comments; read again whenever it changes', {
        placeholder: 'file',
      }),
    ),
    docsAccess: choice(
      ['key', 'open', 'off'],
      'Who may read /docs: those with a key (everyone where no keys are set), everyone, nobody',
      { default: 'key' },
    ),
    profileAccess: choice(
      ['off', 'admin'],
      'Who may start a profile of the running server by POST /admin/profile: nobody, or requests from this machine that bring a key',
      { default: 'off', needsRestart: true },
    ),
    metricsAccess: choice(
      ['key', 'open', 'off'],
      'Who may read /metrics: those with a key (everyone where no keys are set), everyone, nobody',
      { default: 'key' },
    ),
    corsOrigins: Type.Optional(
      string('Origins whose pages may call the server from a browser, comma-separated, or * (default none)', {
        placeholder: 'origins',
        needsRestart: true,
      }),
    ),
    tlsCert: Type.Optional(
      string(
        'Certificate chain in PEM; with tlsKey the server speaks HTTPS; read again whenever it changes',
        {
          placeholder: 'file',
        },
      ),
    ),
    tlsKey: Type.Optional(string('Private key in PEM that belongs to tlsCert', { placeholder: 'file' })),
    // stopping
    shutdownDelayMs: integer(
      'Time between a stop signal and the end of listening: not ready, yet everything is answered, so that a balancer can turn away first',
      { default: 0, minimum: 0 },
    ),
    drainTimeoutMs: integer(
      'Longest wait for accepted requests after a stop signal; what is left gets 503 and the exit code is 3',
      { default: 30_000, minimum: 0 },
    ),
    logLevel: choice(
      ['silent', 'error', 'warn', 'info', 'debug'],
      'Least severe message to log, as JSON lines on stderr',
      { default: 'warn', needsRestart: true },
    ),
    // observation
    accessLog: flag('Log one line a request, at level info, whatever logLevel is; silent stays silent', {
      needsRestart: true,
    }),
    metrics: Type.Boolean({
      description: 'Count and measure: GET /metrics for Prometheus, GET /stats for people',
      default: true,
      needsRestart: true,
    }),
    metricNames: choice(
      ['akidb', 'tei'],
      "tei adds text-embeddings-inference's metric names (te_*) to ours, for dashboards made for it",
      { default: 'akidb', needsRestart: true },
    ),
    otlpEndpoint: Type.Optional(
      string(
        'OpenTelemetry collector that takes traces over HTTP, e.g. http://127.0.0.1:4318 (default: no traces)',
        { placeholder: 'url', variable: 'OTEL_EXPORTER_OTLP_ENDPOINT', needsRestart: true },
      ),
    ),
    otlpServiceName: string('Name of this service in traces', {
      default: 'akidb-embedding',
      variable: 'OTEL_SERVICE_NAME',
      needsRestart: true,
    }),
    traceSampleRatio: Type.Number({
      description: 'Share of the requests that are traced, where the caller has not decided (traceparent)',
      default: 1,
      minimum: 0,
      maximum: 1,
      needsRestart: true,
    }),
  },
  { additionalProperties: false },
)

/** The validated, complete, frozen configuration. */
export type Config = Readonly<Static<typeof configSchema>>
export type ConfigKey = keyof Config

/** One knob as the flags, the help and the documentation table need it. */
export interface Knob extends KnobExtras {
  readonly key: ConfigKey
  readonly flag: string
  readonly variable: string
  readonly type: 'string' | 'number' | 'integer' | 'boolean'
  readonly choices?: readonly string[]
  readonly default?: string | number | boolean
  readonly minimum?: number
  readonly maximum?: number
  readonly description: string
}

interface KnobSchema extends KnobExtras {
  type: Knob['type']
  enum?: readonly string[]
  default?: string | number | boolean
  minimum?: number
  maximum?: number
  description: string
}

export const knobs: readonly Knob[] = Object.entries(configSchema.properties).map(([key, property]) => {
  const { enum: choices, ...rest } = property as unknown as KnobSchema
  return {
    ...rest,
    key: key as ConfigKey,
    flag: `--${toWords(key).join('-')}`,
    variable: rest.variable ?? `AKIDB_${toWords(key).join('_').toUpperCase()}`,
    ...(choices === undefined ? {} : { choices }),
  }
})

function toWords(key: string): string[] {
  return key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).split(' ')
}
