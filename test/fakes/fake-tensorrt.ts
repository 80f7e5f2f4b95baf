/** The libnvinfer of test/fakes/native/nvinfer.c and what a test says to it. */
import { FakeCudaDriver } from './cuda-driver.ts'
import { compileNative } from './native-library.ts'
import { loadLibrary } from '../../src/hardware/ffi/library.ts'
import { loadTensorrt } from '../../src/hardware/ffi/tensorrt/tensorrt.ts'
import { readDevice } from '../../src/hardware/gpu/device.ts'
import type { TensorrtMachine } from '../../src/hardware/machine/tensorrt-library.ts'

export interface FakeTensorrt {
  readonly path: string
  /** Every call since `clear`, with its arguments. */
  readonly calls: () => string[]
  readonly clear: () => void
  /** Objects not yet freed. */
  readonly live: () => number
  readonly setMode: (name: string, value: number) => void
  /** The inspector's JSON of every engine from now on. */
  readonly setLayers: (json: string) => void
  /** Builds begun, in mode 'describe'. */
  readonly builds: () => number
}

/** @param version as getInferLibVersion gives it, e.g. 100600 */
export function compileTensorrt(version: number): FakeTensorrt {
  return controlTensorrt(compileNative('nvinfer', { TENSORRT_VERSION: version }))
}

/** @param path of a library that was compiled before */
export function controlTensorrt(path: string): FakeTensorrt {
  const library = loadLibrary(path)
  const read = library.declare<[], string>('const char *fake_calls()')
  return {
    path,
    calls: () => read().trimEnd().split('\n'),
    clear: library.declare<[], void>('void fake_clear()'),
    live: library.declare<[], number>('int fake_live()'),
    setMode: library.declare<[string, number], void>('void fake_mode(const char *name, int value)'),
    setLayers: library.declare<[string], void>('void fake_layers(const char *json)'),
    builds: library.declare<[], number>('int fake_builds()'),
  }
}

/** A machine with this TensorRT and a GPU that is not there. */
export function fakeMachine(fake: FakeTensorrt): TensorrtMachine {
  const cuda = new FakeCudaDriver().api
  const tensorrt = loadTensorrt({ infer: fake.path, onnxParser: fake.path }, cuda)
  return { tensorrt, cuda, device: readDevice(cuda, 0), driverVersion: '580.65.06', cudaVersion: '13.0' }
}
