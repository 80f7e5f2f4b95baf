/** Times of a graph's nodes by ONNX Runtime's own profile: a file with one event a node and run. */
import { readFile } from 'node:fs/promises'
import { EmbedError } from '../../errors.ts'
import type { Onnxruntime, OrtAllocator, OrtSession } from '../../hardware/ffi/onnxruntime.ts'
import { type Pointer, readOut, readText } from '../../hardware/ffi/library.ts'
import type { NodeProfiler, NodeTime } from '../engine.ts'
import type { RectangleRunner } from '../rectangular/rectangular-engine.ts'

/** @param session made with a profilePrefix, alone on it
 * @returns `runner` in place of the one given, which counts its runs */
export function createOnnxNodeProfiler(
  api: Onnxruntime,
  session: OrtSession,
  runner: RectangleRunner,
): { readonly runner: RectangleRunner; readonly profiler: NodeProfiler } {
  let runs = 0
  let runsBefore = 0
  return {
    runner: {
      ...runner,
      async run(batch, rectangle, readOutput) {
        runs++
        await runner.run(batch, rectangle, readOutput)
      },
    },
    profiler: {
      start() {
        runsBefore = runs
      },
      async stop() {
        const path = endProfiling(api, session)
        return parseOnnxProfile(await readFile(path, 'utf8'), runsBefore)
      },
    },
  }
}

function endProfiling(api: Onnxruntime, session: OrtSession): string {
  const allocator = readOut<OrtAllocator>((out) => api.GetAllocatorWithDefaultOptions(out))
  const path = readOut<Pointer>((out) => api.SessionEndProfiling(session, allocator, out))
  try {
    return readText(path)
  } finally {
    api.AllocatorFree(allocator, path)
  }
}

/** What is read of an event; `ts` and `dur` in microseconds. */
interface ProfileEvent {
  readonly cat: string
  readonly name: string
  readonly dur: number
  readonly args?: {
    readonly op_name?: string
    readonly provider?: string
    readonly input_type_shape?: readonly Readonly<Record<string, unknown>>[]
  }
}

/** @param runsBefore that are left out: those of the start
 * @throws {EmbedError} FILE_FORMAT when there are fewer runs than that in it */
export function parseOnnxProfile(text: string, runsBefore: number): NodeTime[] {
  const events = JSON.parse(text) as ProfileEvent[]
  // The event of a run comes after those of its nodes.
  const ends = events.flatMap(({ cat, name }, at) =>
    cat === 'Session' && name === 'model_run' ? [at + 1] : [],
  )
  if (ends.length < runsBefore) {
    const reason = `it has ${ends.length} runs where ${runsBefore} were before the recording`
    throw new EmbedError('FILE_FORMAT', { path: "ONNX Runtime's profile", reason })
  }
  return events.slice(runsBefore === 0 ? 0 : ends[runsBefore - 1]).flatMap((event) => {
    const { cat, name, dur, args = {} } = event
    if (cat !== 'Node' || !name.endsWith(kernelTime)) return []
    return {
      name: name.slice(0, -kernelTime.length),
      operation: args.op_name ?? 'unknown',
      kernel: describeKernel(args),
      durationNs: dur * 1e3,
    }
  })
}

const kernelTime = '_kernel_time'

/** 'CPU float': ONNX Runtime tells where a node ran and the types of its inputs. */
function describeKernel({ provider, input_type_shape: inputs = [] }: NonNullable<ProfileEvent['args']>) {
  const type = Object.keys(inputs[0] ?? {})[0]
  return [provider?.replace(/ExecutionProvider$/, ''), type].filter((word) => word !== undefined).join(' ')
}
