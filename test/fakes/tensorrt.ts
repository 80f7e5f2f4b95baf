/** TensorRT without a GPU: the fake libnvinfer in C, whose engines compute on the fake driver's memory and clock. A text's
 * vector is the mean over its tokens of sines of id and position; what reads padding shows at once. */
import { writeFileSync } from 'node:fs'
import { declareCallback, loadLibrary, type Pointer } from '../../src/hardware/ffi/library.ts'
import { loadTensorrt, type Tensorrt } from '../../src/hardware/ffi/tensorrt/tensorrt.ts'
import type { Plan, PlanInputs, PlanOutput, Profile } from '../../src/engines/tensorrt/plan.ts'
import type { FakeCudaDriver } from './cuda-driver.ts'
import { compileNative } from './native-library.ts'

export interface FakePlanOptions {
  readonly output?: PlanOutput
  readonly inputs?: PlanInputs
  readonly dimensions?: number
  readonly contextBytes?: number
  readonly profiles?: readonly Profile[]
}

/** min/opt/max of the batch size, then of the tokens. */
export function profile(name: string, batch: string, tokens: string): Profile {
  const [minBatch, optBatch, maxBatch] = batch.split('/').map(Number) as [number, number, number]
  const [minTokens, optTokens, maxTokens] = tokens.split('/').map(Number) as [number, number, number]
  return { name, minBatch, optBatch, maxBatch, minTokens, optTokens, maxTokens }
}

/** The plan's profiles of DESIGN, at 64 tokens. */
export const fakeProfiles: readonly Profile[] = [
  profile('low_latency', '1/1/2', '1/64/64'),
  profile('balanced', '2/4/8', '1/64/64'),
  profile('high_throughput', '8/16/32', '1/64/64'),
]

export function writeFakePlan(path: string, options: FakePlanOptions = {}): Plan {
  const { output = 'pooled', inputs = 'ids', profiles = fakeProfiles } = options
  const lines = profiles.map((p) =>
    [p.minBatch, p.optBatch, p.maxBatch, p.minTokens, p.optTokens, p.maxTokens].join(' '),
  )
  const head = `fakeplan ${output} ${inputs} ${options.dimensions ?? 8} ${options.contextBytes ?? 4096}`
  const text = [head, ...lines, ''].join('\n')
  writeFileSync(path, text)
  return { path, sizeBytes: text.length, precision: 'fp32', profiles, inputs, output, fromCache: true }
}

/** f32 [dimensions]: what the fake model gives for a token. */
export function tokenVector(id: number, position: number, dimensions: number): number[] {
  return Array.from({ length: dimensions }, (_, k) => Math.sin((id + 1) * (k + 1) * 0.37 + position * 0.01))
}

/** f32 [dimensions]: the mean over the tokens, not normalised. */
export function textVector(ids: readonly number[], dimensions: number): Float32Array {
  const sum = new Float64Array(dimensions)
  ids.forEach((id, position) => {
    tokenVector(id, position, dimensions).forEach((value, k) => (sum[k]! += value))
  })
  return Float32Array.from(sum, (value) => value / ids.length)
}

export interface FakeTensorrt {
  readonly tensorrt: Tensorrt
  readonly driver: FakeCudaDriver
  /** Shapes run, oldest first: '2x64 of profile 1'. */
  readonly runs: string[]
  /** Work of a context whose state had changed since it was recorded, memory shared by streams that run at once. */
  readonly violations: string[]
  /** TensorRT's objects that are alive. */
  readonly live: () => number
  /** Lets every enqueue fail, or work again. */
  setFailing(isFailing: boolean): void
  /** Lets the model give NaN for texts that hold this id. */
  poisonId: number | undefined
}

let library: ReturnType<typeof openLibrary> | undefined
/** The one whose driver the library's engines compute on. */
let active: FakeTensorrt | undefined
let isFailing = false

/** One at a time in a process. */
export function startFakeTensorrt(driver: FakeCudaDriver): FakeTensorrt {
  library ??= openLibrary()
  const tensorrt = loadTensorrt({ infer: library.path }, driver.api)
  isFailing = false
  active = {
    tensorrt,
    driver,
    runs: [],
    violations: [],
    live: library.live,
    setFailing: (value) => (isFailing = value),
    poisonId: undefined,
  }
  return active
}

function openLibrary() {
  const path = compileNative('nvinfer', { TENSORRT_VERSION: 100_600 })
  const native = loadLibrary(path)
  const generationOf = native.declare<[context: Pointer], number>('int64_t fake_generation(void *context)')
  const streamByMemory = new Map<bigint, bigint>()
  const callback = declareCallback(
    'bool Fake_enqueue(void *context, int64_t generation, bool is_pooled, bool takes_ids, int dimensions, int profile, int64_t rows, int64_t tokens, void *ids, void *mask, void *out, void *memory, void *stream)',
    (...call: EnqueueCall) => enqueue(call, generationOf, streamByMemory),
  )
  native.declare<[callback: Pointer], void>('void fake_on_enqueue(void *callback)')(callback)
  return { path, live: native.declare<[], number>('int fake_live()') }
}

type EnqueueCall = [
  context: Pointer,
  generation: number,
  isPooled: boolean,
  takesIds: boolean,
  dimensions: number,
  profile: number,
  rows: number,
  tokens: number,
  ids: bigint,
  mask: bigint,
  out: bigint,
  memory: bigint,
  stream: bigint,
]

/** Called by C: must not throw. */
function enqueue(
  [context, generation, isPooled, takesIds, dimensions, profileIndex, ...rest]: EnqueueCall,
  generationOf: (context: Pointer) => number,
  streamByMemory: Map<bigint, bigint>,
): boolean {
  const [rows, tokens, ids, mask, out, memory, stream] = rest
  const { driver, runs, violations } = active!
  if (isFailing) return false
  const otherStream = streamByMemory.get(memory)
  if (otherStream !== undefined && otherStream !== stream && driver.timeline.streams.has(otherStream)) {
    violations.push(`streams ${otherStream} and ${stream} share the memory ${memory}`)
  }
  streamByMemory.set(memory, stream)
  const run = () => {
    if (generationOf(context) !== generation) {
      violations.push(`work of ${rows}x${tokens} on a context that changed since, or is gone`)
    }
    runs.push(`${rows}x${tokens} of profile ${profileIndex}`)
    compute(driver, { isPooled, takesIds, dimensions, rows, tokens, ids, mask, out })
  }
  try {
    driver.enqueue(stream, { name: 'model', durationMs: 0.05 + rows * tokens * 0.001, run })
    return true
  } catch {
    return false
  }
}

interface Run {
  readonly isPooled: boolean
  readonly takesIds: boolean
  readonly dimensions: number
  readonly rows: number
  readonly tokens: number
  readonly ids: bigint
  readonly mask: bigint
  readonly out: bigint
}

function compute(driver: FakeCudaDriver, run: Run): void {
  const { isPooled, takesIds, dimensions, rows, tokens } = run
  const cells = rows * tokens
  const read = (pointer: bigint, bytes: number) =>
    new DataView(driver.deviceBytes(pointer, bytes).slice().buffer)
  const input = read(run.ids, cells * (takesIds ? 8 : dimensions * 2))
  const maskView = read(run.mask, cells * 8)
  const values = new Float32Array((isPooled ? rows : cells) * dimensions)
  for (let row = 0; row < rows; row++) {
    const sum = new Float64Array(dimensions)
    let count = 0
    for (let position = 0; position < tokens; position++) {
      const cell = row * tokens + position
      const isReal = maskView.getBigInt64(cell * 8, true) === 1n
      const id = takesIds ? Number(input.getBigInt64(cell * 8, true)) : -1
      const vector = takesIds
        ? tokenVector(id, position, dimensions)
        : Array.from({ length: dimensions }, (_, k) =>
            widen(input.getUint16((cell * dimensions + k) * 2, true)),
          )
      if (isReal && id === active!.poisonId) vector.fill(Number.NaN)
      // Padding holds what no reader may use.
      if (!isPooled) values.set(isReal ? vector : vector.map(() => 1e6), cell * dimensions)
      if (!isReal) continue
      count++
      vector.forEach((value, k) => (sum[k]! += value))
    }
    if (isPooled)
      values.set(
        sum.map((value) => value / count),
        row * dimensions,
      )
  }
  driver.deviceBytes(run.out, values.byteLength).set(new Uint8Array(values.buffer))
}

/** bf16 -> f32 */
function widen(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!
}
