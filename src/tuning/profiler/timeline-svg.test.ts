import { describe, expect, it } from 'vitest'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'
import { toTimelineSvg } from './timeline-svg.ts'

/** Of each rectangle with a title: x, width, colour, title. */
function readBoxes(svg: string) {
  return [
    ...svg.matchAll(
      /<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)" [^>]*fill:(#\w+)"><title>([^<]*)<\/title>/g,
    ),
  ].map(([, x, y, width, colour, title]) => ({
    x: Number(x),
    y: Number(y),
    width: Number(width),
    colour,
    title,
  }))
}

describe('a timeline', () => {
  it('has a row a stream, work to scale, a colour a class', () => {
    const svg = toTimelineSvg(
      makeActivity({
        kernels: [
          makeKernel({ name: 'nvjet_qqtst_1', startNs: 200_000, endNs: 600_000, streamId: 7 }),
          makeKernel({ name: 'flash<int>', startNs: 600_000, endNs: 1_000_000, streamId: 7 }),
        ],
        memcpys: [makeMemcpy({ startNs: 0, endNs: 100_000, streamId: 9 })],
      }),
    )
    const boxes = readBoxes(svg)
    expect(boxes.map(({ x, width, title }) => [x, width, title])).toEqual([
      [90, 80, 'memcpy pinned to device (copy): 100.0 us'],
      [250, 320, 'nvjet_qqtst_1 (FP8 GEMM): 400.0 us'],
      [570, 320, 'flash&lt;int&gt; (attention): 400.0 us'],
    ])
    expect(new Set(boxes.map(({ y }) => y)).size).toBe(2)
    expect(new Set(boxes.map(({ colour }) => colour)).size).toBe(3)
    for (const text of ['stream 7', 'stream 9', 'attention', '1.00 ms']) expect(svg).toContain(`>${text}<`)
  })

  it('draws neighbours that cannot be told apart as one, a pause between them not', () => {
    const kernels = [norm(0, 100), norm(100, 300), norm(350, 400_000), norm(600_000, 1_000_000)]
    const boxes = readBoxes(toTimelineSvg(makeActivity({ kernels })))
    expect(boxes.map(({ title }) => title)).toEqual([
      'norm, 3 in a row: 400.0 us',
      'residual_rmsnorm (norm): 400.0 us',
    ])
  })

  it('gives work that overlaps in a stream rows of its own', () => {
    const kernels = [makeKernel({ startNs: 0, endNs: 100 }), makeKernel({ startNs: 50, endNs: 150 })]
    expect(new Set(readBoxes(toTimelineSvg(makeActivity({ kernels }))).map(({ y }) => y)).size).toBe(2)
  })

  it('of nothing is empty, and no larger than the eye can see of much', () => {
    expect(readBoxes(toTimelineSvg(makeActivity()))).toEqual([])
    expect(toTimelineSvg(makeActivity())).not.toMatch(/NaN|Infinity/)
    const kernels = Array.from({ length: 50_000 }, (_, i) =>
      makeKernel({ name: 'gelu', startNs: i * 10, endNs: i * 10 + 9 }),
    )
    expect(toTimelineSvg(makeActivity({ kernels })).length).toBeLessThan(5000)
  })
})

function norm(startNs: number, endNs: number) {
  return makeKernel({ name: 'residual_rmsnorm', startNs, endNs })
}
