import { expect, it } from 'vitest'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'
import { summarisePauses } from './pauses.ts'

it('pauses by what comes before and after, work beside other work makes none', () => {
  const activity = makeActivity({
    kernels: [
      kernel('norm', 300, 400),
      kernel('gemm', 410, 600),
      // A second stream: within the product, then past its end.
      kernel('other', 450, 500),
      kernel('tail', 590, 700),
      kernel('norm', 1300, 1400),
      kernel('gemm', 1430, 1500),
    ],
    memcpys: [makeMemcpy({ startNs: 0, endNs: 100 }), makeMemcpy({ startNs: 1000, endNs: 1100 })],
  })
  expect(
    summarisePauses(activity).map(({ name, instances, totalNs, maxNs }) => [name, instances, totalNs, maxNs]),
  ).toEqual([
    ['memcpy pinned to device -> norm', 2, 400, 200],
    ['tail -> memcpy pinned to device', 1, 300, 300],
    ['norm -> gemm', 2, 40, 30],
  ])
  expect(summarisePauses(makeActivity())).toEqual([])
})

function kernel(name: string, startNs: number, endNs: number) {
  return makeKernel({ name, startNs, endNs })
}
