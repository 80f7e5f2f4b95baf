/** Every failure a caller can meet has a code here; docs/errors.md explains each and a test keeps the two equal.
 * The core knows no HTTP: serving/server/error-handler.ts maps codes to statuses. */

/** Message = what happened, the values, what to do. */
const messages = {
  // input
  EMPTY_INPUT: (d: { index?: number }) =>
    d.index === undefined
      ? 'the list of inputs is empty; give at least one text'
      : `input ${d.index} is empty; give a text of at least one character, or drop it from the list`,
  INPUT_TOO_LONG: (d: { index: number; tokens: number; maxTokens: number }) =>
    `input ${d.index} has ${d.tokens} tokens, the model takes ${d.maxTokens}; shorten it, or ask for truncation`,
  INVALID_TOKEN_ID: (d: { index: number; tokenId: number; vocabularySize: number }) =>
    `input ${d.index} holds token id ${d.tokenId}, the vocabulary has ids 0 to ${d.vocabularySize - 1}`,
  INVALID_DIMENSIONS: (d: { dimensions: number; maxDimensions: number }) =>
    `dimensions ${d.dimensions} is out of range; this model gives 1 to ${d.maxDimensions}`,
  UNKNOWN_PROMPT: (d: { promptName: string; known: readonly string[] }) =>
    `the model has no prompt named '${d.promptName}'; it has ${list(d.known)}`,
  INSTRUCTION_NOT_SUPPORTED: (d: { known: readonly string[] }) =>
    `the model has no prompt of the form 'Instruct: ...\\nQuery:' to put an instruction into; it has the prompts ${list(d.known)}: leave the instruction out, or use prompt_name`,
  INVALID_REQUEST: (d: { reason: string }) => d.reason,
  INVALID_HEADER: (d: { header: string; value: string; expects: string }) =>
    `the header ${d.header} is '${d.value}'; it takes ${d.expects}`,
  TEXT_TOO_LARGE: (d: { index: number; chars: number; maxTextChars: number }) =>
    `input ${d.index} has ${d.chars} characters, at most ${d.maxTextChars} are taken; split it, or raise --max-text-chars`,
  INVALID_API_KEY: (d: { given: boolean }) =>
    `${d.given ? 'the API key is not known here' : 'an API key is needed'}; send it as 'authorization: Bearer KEY' or 'x-api-key: KEY'`,
  INVALID_JSON: (d: { reason: string }) => `the body is not valid JSON: ${d.reason}`,
  BODY_TOO_LARGE: (d: { maxBodyBytes: number }) =>
    `the body is larger than ${d.maxBodyBytes} bytes; split the list, or raise --max-body-bytes`,
  UNSUPPORTED_MEDIA_TYPE: (d: { mediaType: string }) =>
    `the content type '${d.mediaType}' is not supported; send application/json`,
  ROUTE_NOT_FOUND: (d: { method: string; path: string }) =>
    `no route ${d.method} ${d.path}; /docs lists the routes`,
  METHOD_NOT_ALLOWED: (d: { method: string; path: string; allowed: readonly string[] }) =>
    `${d.path} does not take ${d.method}; it takes ${list(d.allowed)}`,
  SERVED_MODEL_UNKNOWN: (d: { model: string; served: string }) =>
    `the model '${d.model}' is not served here; this server has '${d.served}'`,
  TASK_NOT_SUPPORTED: (d: { path: string; needs: string; model: string }) =>
    `${d.path} needs ${d.needs}, '${d.model}' is a dense embedding model; use /embed`,
  TOO_MANY_INPUTS: (d: { inputs: number; maxInputs: number }) =>
    `the list has ${d.inputs} inputs, at most ${d.maxInputs} are taken; split the list, or raise --max-inputs`,
  // queue
  QUEUE_FULL: (d: {
    queuedRequests: number
    maxQueuedRequests: number
    queuedTokens: number
    maxQueuedTokens: number
    retryAfterMs: number
  }) =>
    `the queue holds ${d.queuedRequests} of ${d.maxQueuedRequests} requests and ${d.queuedTokens} of ${d.maxQueuedTokens} tokens; retry in ${d.retryAfterMs} ms, or raise --max-queued-requests or --max-queued-tokens`,
  OVER_OBJECTIVE: (d: {
    predictedMs: number
    targetP95Ms: number
    queuedRequests: number
    retryAfterMs: number
  }) =>
    `the answer would take about ${d.predictedMs} ms behind ${d.queuedRequests} requests, more than the ${d.targetP95Ms} ms of --target-p95-ms; retry in ${d.retryAfterMs} ms`,
  REQUEST_TOO_LARGE: (d: { tokens: number; maxQueuedTokens: number }) =>
    `the request has ${d.tokens} tokens, more than the ${d.maxQueuedTokens} that an empty queue takes; split the list, or raise --max-queued-tokens`,
  TOKEN_OUTPUT_TOO_LARGE: (d: { tokens: number; outputBytes: number; maxTokenOutputBytes: number }) =>
    `vectors for each of ${d.tokens} tokens are ${d.outputBytes} bytes, more than ${d.maxTokenOutputBytes}; split the list, or raise --max-token-output-bytes`,
  REQUEST_TIMEOUT: (d: { timeoutMs: number }) =>
    `the request was not done after ${d.timeoutMs} ms; retry, or raise --request-timeout-ms`,
  REQUEST_CANCELLED: (_d: object) => 'the request was cancelled by its caller',
  SHUTTING_DOWN: (_d: object) => 'the server is shutting down and takes no new requests; use another replica',
  DRAIN_TIMEOUT: (d: { unanswered: number; drainTimeoutMs: number }) =>
    `stopped with ${d.unanswered} requests refused that were still under way after ${d.drainTimeoutMs} ms; raise --drain-timeout-ms to wait longer`,
  // engine
  ENGINE_FAILED: (d: { engine: string; reason: string }) => `the ${d.engine} engine failed: ${d.reason}`,
  ENGINE_OUT_OF_MEMORY: (d: { engine: string; sequences: number; tokens: number; reason: string }) =>
    `the ${d.engine} engine has no memory for ${d.sequences} sequences of ${d.tokens} tokens together: ${d.reason}; shorten the text, or lower --max-batch-tokens or --streams`,
  ENGINE_UNAVAILABLE: (d: { engine: string; reason: string; fix: string }) =>
    `the ${d.engine} engine cannot start: ${d.reason}; ${d.fix}`,
  NO_ENGINE: (d: { tried: readonly string[] }) => `no engine could start:${lines(d.tried)}`,
  OUTPUT_NOT_SUPPORTED: (d: { engine: string; output: string }) =>
    `the ${d.engine} engine gives no '${d.output}' output for this model`,
  NON_FINITE_OUTPUT: (d: { index: number; engine: string; precision: string }) =>
    `the ${d.engine} engine gave NaN or infinity for input ${d.index} at ${d.precision}; use --precision fp32`,
  GOLDEN_MISMATCH: (d: { engine: string; precision: string; worstCosine: number; minCosine: number }) =>
    `the ${d.engine} engine at ${d.precision} disagrees with the golden vectors: worst cosine ${d.worstCosine.toFixed(6)}, needed ${d.minCosine}; use --precision fp32, or check that the model files are whole`,
  OPENVINO_STATUS: (d: { api: string; status: number; reason: string }) =>
    `OpenVINO's ${d.api} answered ${d.status}: ${d.reason}`,
  ONNXRUNTIME_STATUS: (d: { api: string; status: number; reason: string }) =>
    `ONNX Runtime's ${d.api} answered ${d.status}: ${d.reason}`,
  CUDA_STATUS: (d: { api: string; status: number; name: string; reason: string }) =>
    `CUDA's ${d.api} answered ${d.status} ${d.name}: ${d.reason}`,
  NVML_STATUS: (d: { api: string; status: number; reason: string }) =>
    `NVML's ${d.api} answered ${d.status}: ${d.reason}`,
  CUPTI_STATUS: (d: { api: string; status: number; name: string; fix?: string }) =>
    `CUPTI's ${d.api} answered ${d.status} ${d.name}; ${d.fix ?? "'akidb-embedding doctor' tells what was found of CUDA"}`,
  CUPTI_VERSION: (d: { path: string; version: number; supported: string }) =>
    `${d.path} has the API version ${d.version}, whose records are not known here; known are ${d.supported}: put one of these first in LD_LIBRARY_PATH ('pip install nvidia-cuda-cupti==13.0.*' brings one), or use --nsys`,
  PROFILING_NOT_PERMITTED: (d: { api: string; status: number; name: string }) =>
    `the driver lets only administrators profile: CUPTI's ${d.api} answered ${d.status} ${d.name}; set 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' in /etc/modprobe.d and load the driver anew, or give the process CAP_SYS_ADMIN (docker run --cap-add=SYS_ADMIN)`,
  PROFILER_BUSY: (d: { holder: string }) =>
    `another profiler is at work: ${d.holder}; end it (Nsight, cuda-gdb, another profile), or use --nsys where this process runs under nsys`,
  PROFILE_UNSUPPORTED: (d: { engine: string; reason: string; fix: string }) =>
    `the ${d.engine} engine cannot be profiled so: ${d.reason}; ${d.fix}`,
  NSYS_FAILED: (d: { task: string; reason: string }) =>
    `'nsys ${d.task}' failed: ${d.reason}; its own words stand above`,
  NVRTC_STATUS: (d: { api: string; status: number; reason: string }) =>
    `NVRTC's ${d.api} answered ${d.status}: ${d.reason}`,
  KERNEL_NOT_COMPILED: (d: { kernel: string; options: readonly string[]; nvrtc: string; log: string }) =>
    `the kernel ${d.kernel} could not be compiled by NVRTC ${d.nvrtc} with ${d.options.join(' ')}:\n${d.log}`,
  CUBLAS_STATUS: (d: { api: string; status: number; name: string; reason: string }) =>
    `cuBLASLt's ${d.api} answered ${d.status} ${d.name}: ${d.reason}`,
  MATMUL_UNSUPPORTED: (d: {
    precision: string
    rows: number
    columns: number
    inner: number
    reason: string
  }) =>
    `no ${d.precision} matrix product of ${d.rows} x ${d.inner} by ${d.columns} x ${d.inner} on this GPU: ${d.reason}; use --precision bf16`,
  GPU_UNAVAILABLE: (d: { reason: string; fix: string }) => `no GPU can be used: ${d.reason}; ${d.fix}`,
  GPU_OUT_OF_MEMORY: (d: {
    memory: 'device' | 'pinned'
    resource: string
    neededBytes: number
    freeBytes: number
    totalBytes: number
  }) =>
    `no ${d.memory} memory for ${d.resource}: ${d.neededBytes} bytes needed, the GPU has ${d.freeBytes} of ${d.totalBytes} free; lower --max-batch-size or --max-batch-tokens, or stop what else uses the GPU`,
  TENSORRT_VERSION: (d: { version: string; supported: string; reason: string }) =>
    `TensorRT ${d.version} is not supported: ${d.reason}; supported is ${d.supported}`,
  TENSORRT_FAILED: (d: { api: string; reason: string }) => `TensorRT's ${d.api} failed: ${d.reason}`,
  ONNX_NOT_PARSED: (d: { path: string; errors: readonly string[] }) =>
    `TensorRT cannot read ${d.path}:${lines(d.errors)}`,
  ENGINE_BUILD_FAILED: (d: { onnx: string; reason: string; fix: string }) =>
    `TensorRT cannot build an engine of ${d.onnx}: ${d.reason}; ${d.fix}`,
  PLAN_UNUSABLE: (d: { path: string; reason: string; fix?: string }) =>
    `the plan ${d.path} cannot be used: ${d.reason}; ${d.fix ?? "'akidb-embedding build' makes one for this machine"}`,
  USED_AFTER_FREE: (d: { resource: string }) => `${d.resource} was used after it was freed. This is a bug.`,
  LIBRARY_NOT_FOUND: (d: { library: string; searched: readonly string[]; fix: string }) =>
    `${d.library} was not found; searched:${lines(d.searched)}\n${d.fix}`,
  TOKENIZER_FAILED: (d: { reason: string }) => `the tokenizer failed: ${d.reason}`,
  // model
  MODEL_NOT_FOUND: (d: { model: string; tried: readonly string[] }) =>
    `the model '${d.model}' could not be had; tried:${lines(d.tried)}`,
  MODEL_FILE_MISSING: (d: { folder: string; file: string; fix: string }) =>
    `${d.folder} has no ${d.file}; ${d.fix}`,
  MODEL_FILE_CORRUPT: (d: { file: string; reason: string }) =>
    `${d.file} is corrupt: ${d.reason}; delete it and pull the model again`,
  MODEL_CONFIG_INVALID: (d: { file: string; reason: string }) => `${d.file}: ${d.reason}`,
  ARCHITECTURE_UNSUPPORTED: (d: { architecture: string; known: readonly string[] }) =>
    `no graph can be built for the architecture '${d.architecture}'; known are ${list(d.known)}; a folder that brings onnx/model.onnx is served whatever its architecture`,
  PRECISION_UNSUPPORTED: (d: { architecture: string; precision: string; reason: string }) =>
    `'${d.architecture}' has no graph at ${d.precision}: ${d.reason}`,
  SCALES_INVALID: (d: { source: string; reason: string }) =>
    `the activation scales of ${d.source} cannot be used: ${d.reason}`,
  MODEL_REFERENCE_INVALID: (d: { reference: string; reason: string }) =>
    `'${d.reference}' is no model: ${d.reason}; give a folder that holds a config.json, or a hub name like org/name`,
  MODEL_ACCESS_DENIED: (d: { model: string; status: number; endpoint: string; hasToken: boolean }) =>
    `${d.endpoint} refuses the model '${d.model}' (HTTP ${d.status}); it is private, gated or does not exist: check the name, ${d.hasToken ? 'and that the token given with --hf-token or HF_TOKEN may read it' : 'and give a token that may read it with --hf-token or HF_TOKEN'}`,
  CHECKSUM_MISMATCH: (d: { file: string; expected: string; actual: string }) =>
    `${d.file} has SHA-256 ${d.actual}, expected ${d.expected}; it was removed, pull it again`,
  DOWNLOAD_FAILED: (d: { url: string; reason: string; status?: number }) =>
    `download of ${d.url} failed: ${d.reason}`,
  OFFLINE: (d: { wanted: string }) =>
    `${d.wanted} is not in the cache and --offline forbids fetching it; pull it once without --offline`,
  // machine and files
  NO_SPACE: (d: { path: string; neededBytes?: number; fix?: string }) =>
    `no space left for ${d.path}${d.neededBytes === undefined ? '' : ` (${d.neededBytes} bytes needed)`}; ${d.fix ?? 'free some, or choose another --cache-dir'}`,
  FILE_UNWRITABLE: (d: { path: string; reason: string; fix?: string }) =>
    `cannot write ${d.path}: ${d.reason}; ${d.fix ?? 'allow it, or choose another --cache-dir'}`,
  CACHE_LOCKED: (d: { path: string; holder: string; waitedMs: number }) =>
    `${d.path} is still being filled by ${d.holder} after ${d.waitedMs} ms; wait for it, or stop it`,
  PORT_IN_USE: (d: { host: string; port: number }) =>
    `port ${d.port} on ${d.host} is in use; stop what uses it, or give --port another value`,
  LISTEN_FAILED: (d: { host: string; port: number; reason: string }) =>
    `cannot listen on host ${d.host}, port ${d.port}: ${d.reason}; give --host an address of this machine, --port one that this user may take`,
  API_KEYS_INVALID: (d: { source: string; reason: string }) =>
    `${d.source}: ${d.reason}; give one key a line, of visible ASCII characters without spaces`,
  TLS_INVALID: (d: { cert: string; key: string; reason: string }) =>
    `the certificate ${d.cert} and the key ${d.key} cannot be used: ${d.reason}; give two PEM files that belong together, the key without a passphrase`,
  FILE_UNREADABLE: (d: { path: string; reason: string }) => `cannot read ${d.path}: ${d.reason}`,
  FILE_FORMAT: (d: { path: string; reason: string }) => `${d.path}: ${d.reason}`,
  RECORD_FAILED: (d: { path: string; place: string; reason: string }) => `${d.path}: ${d.place}: ${d.reason}`,
  EMBEDDING_INTERRUPTED: (d: { output: string; records: number }) =>
    `stopped after ${d.records} records of ${d.output}; run the same command again to go on from there`,
  CHECKPOINT_MISMATCH: (d: { path: string; differences: readonly string[] }) =>
    `${d.path} does not fit the run that was begun:${lines(d.differences)}\nundo the difference to go on with that run, or start over with --no-resume`,
  // measuring
  TARGET_FAILED: (d: { target: string; reason: string }) => `${d.target} cannot be measured: ${d.reason}`,
  WORKLOAD_INVALID: (d: { workload: string; reason: string }) => `the workload '${d.workload}': ${d.reason}`,
  TARGETS_INVALID: (d: { path: string; reason: string }) => `the targets of ${d.path}: ${d.reason}`,
  TUNING_FAILED: (d: { reason: string }) => `tuning stopped: ${d.reason}`,
  TUNED_STALE: (d: { path: string; differences: readonly string[] }) =>
    `${d.path} was tuned for something else:${lines(d.differences)}\nrun 'akidb-embedding tune' here, or leave --tuned out`,
  CONFIG_INVALID: (d: { reason: string }) => d.reason,
  USAGE: (d: { reason: string }) => d.reason,
  INTERNAL: (d: { reason: string }) => `internal error: ${d.reason}. This is a bug.`,
} as const

export type ErrorCode = keyof typeof messages
export type ErrorDetails<Code extends ErrorCode> = Parameters<(typeof messages)[Code]>[0]
export const errorCodes: readonly ErrorCode[] = Object.keys(messages) as ErrorCode[]

/** The one error type of this package: a stable `code`, the values as `details`, a message that names the way out.
 * `if (error instanceof EmbedError && error.code === 'QUEUE_FULL') …` */
export class EmbedError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name = 'EmbedError'
  readonly code: Code
  readonly details: ErrorDetails<Code>
  constructor(code: Code, details: ErrorDetails<Code>, options?: { cause?: unknown }) {
    super((messages[code] as (details: ErrorDetails<Code>) => string)(details), options)
    this.code = code
    this.details = details
  }
}

/** The error's own words, for anything that was thrown. */
export function toReason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function list(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ')
}

function lines(entries: readonly string[]): string {
  return entries.map((entry) => `\n  - ${entry}`).join('')
}
