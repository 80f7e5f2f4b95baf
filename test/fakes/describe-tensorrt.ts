/** Cases of the binding, on a libnvinfer of TensorRT 10's table layout and on one of 11's. After each: nothing is left, and
 * nothing was called that has no place in the table. */
import { afterEach, beforeAll, beforeEach, describe } from 'vitest'
import { loadTensorrt, type Tensorrt } from '../../src/hardware/ffi/tensorrt/tensorrt.ts'
import { FakeCudaDriver } from './cuda-driver.ts'
import { compileTensorrt, type FakeTensorrt } from './fake-tensorrt.ts'
import { canCompile } from './native-library.ts'

export interface TensorrtCase {
  readonly major: number
  /** As getInferLibVersion gives it. */
  readonly versionNumber: number
  /** Of a strongly typed network. */
  readonly networkFlags: number
  readonly fake: FakeTensorrt
  readonly tensorrt: Tensorrt
}

export const fakeCuda = new FakeCudaDriver().api

const modes = 'fail_build fail_engine fail_create bad_threads parse_errors reject_shape quiet'.split(' ')

/** @param define gets what to ask for the case inside a test */
export function describeTensorrt(what: string, define: (made: () => TensorrtCase) => void): void {
  describe.skipIf(!canCompile).each([
    [10, 100_600, 2],
    [11, 110_100, 0],
  ])(`${what} of TensorRT %i, from C`, (major, versionNumber, networkFlags) => {
    let made: TensorrtCase
    beforeAll(() => {
      const fake = compileTensorrt(versionNumber)
      const paths = { infer: fake.path, onnxParser: fake.path }
      const tensorrt = loadTensorrt(paths, fakeCuda, { allowUnproven: true })
      made = { major, versionNumber, networkFlags, fake, tensorrt }
    })
    beforeEach(() => made.fake.clear())
    afterEach(() => {
      const { fake, tensorrt } = made
      for (const mode of modes) fake.setMode(mode, 0)
      const left = fake.live() + tensorrt.children.count
      const isWrong = fake.calls().some((line) => line.startsWith('WRONG'))
      if (left > 0 || isWrong) throw new Error(`${left} objects left; wrong table entry called: ${isWrong}`)
    })
    define(() => made)
  })
}
