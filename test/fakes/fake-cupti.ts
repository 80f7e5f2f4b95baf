/** The fake libcupti, and what a test makes it do. */
import { loadLibrary, type NativeFunction } from '../../src/hardware/ffi/library.ts'
import { compileNative } from './native-library.ts'

export interface FakeCupti {
  readonly path: string
  /** @param name 0: 'swiglu', 1: a mangled name   @param ns 0: not over   @param graph 0: in none */
  readonly launch: NativeFunction<[name: number, ns: number, graph: number], void>
  readonly launchMany: NativeFunction<[count: number], void>
  /** Launches on a thread of its own until `stop`. */
  readonly serve: NativeFunction<[], void>
  readonly stop: NativeFunction<[], void>
  readonly setVersion: NativeFunction<[version: number], void>
  /** The next call of `api` answers `status`. */
  readonly fail: NativeFunction<[api: string, status: number], void>
  readonly enabledKinds: NativeFunction<[], number>
  /** The functions called since the last time. */
  readonly takeCalls: () => string[]
}

/** @param version as cuptiGetVersion tells it; its structs are of CUDA 12.9 below 130000, of 13.0 from there on */
export function compileFakeCupti(version = 130_001): FakeCupti {
  const path = compileNative('cupti', { CUPTI_VERSION: version })
  const library = loadLibrary(path)
  const read = library.declare<[], string>('const char *fake_calls()')
  const clear = library.declare<[], void>('void fake_clear()')
  return {
    path,
    launch: library.declare('void fake_launch(uint32_t name, uint32_t ns, uint32_t graph)'),
    launchMany: library.declare('void fake_launch_many(uint32_t count)'),
    serve: library.declare('void fake_serve()'),
    stop: library.declare('void fake_stop()'),
    setVersion: library.declare('void fake_set_version(uint32_t version)'),
    fail: library.declare('void fake_fail(const char *api, int status)'),
    enabledKinds: library.declare('int fake_enabled_kinds()'),
    takeCalls: () => {
      const calls = read().trim().split(/\s+/)
      clear()
      return calls
    },
  }
}
