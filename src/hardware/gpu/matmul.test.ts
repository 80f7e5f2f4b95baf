import { describe, expect, it } from 'vitest'
import { FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import * as c from '../ffi/cublaslt.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { Matmul, MatmulLibrary, type MatmulShape } from './matmul.ts'
import { GpuStream } from './stream.ts'

const bf16: MatmulShape = { precision: 'bf16', rows: 3, columns: 48, inner: 64 }

async function open() {
  const fake = await openFakeGpu()
  const cublaslt = new FakeCublaslt(fake.driver)
  const library = new MatmulLibrary(fake.gpu, cublaslt.api, { workspaceBytes: 4096 })
  const buffer = (name: string) => new DeviceBuffer(fake.gpu, name, 4096).handle
  const operands = { a: buffer('a'), b: buffer('b'), d: buffer('d') }
  const scales = { aScale: buffer('aScale'), bScale: buffer('bScale') }
  return { fake, cublaslt, library, operands, scales, buffer, stream: new GpuStream(fake.gpu, 's') }
}

describe('matmul', () => {
  it('asks cuBLASLt for the transpose of a row-major product, operands crosswise', async () => {
    const { fake, cublaslt, library, operands, stream } = await open()
    const matmul = new Matmul(library, bf16)
    matmul.launch(stream, operands, matmul.heuristics(operands)[0]!)
    const { a, b, d } = operands
    expect(cublaslt.products).toEqual([
      {
        algorithm: 0,
        config: expect.objectContaining({ splitK: 1 }),
        attributes: new Map([[c.CUBLASLT_MATMUL_DESC_TRANSA, 1n]]),
        layouts: [
          { type: c.CUDA_R_16BF, rows: 64, columns: 48, leading: 64 },
          { type: c.CUDA_R_16BF, rows: 64, columns: 3, leading: 64 },
          { type: c.CUDA_R_16BF, rows: 48, columns: 3, leading: 48 },
          { type: c.CUDA_R_16BF, rows: 48, columns: 3, leading: 48 },
        ],
        pointers: [b, a, d, d],
        beta: 0,
        stream: stream.handle,
      },
    ])
    expectClean(fake)
    expect(cublaslt.live).toEqual([])
  })

  it('gives FP8 its scales: one a matrix, or one a row', async () => {
    const { cublaslt, library, operands, scales, stream, buffer } = await open()
    const bias = buffer('bias')
    const attributesOf = (shape: Partial<MatmulShape>, more = {}) => {
      const matmul = new Matmul(library, { ...bf16, ...shape })
      const given = { ...operands, ...scales, ...more }
      matmul.launch(stream, given, matmul.heuristics(given)[0]!)
      const { attributes, layouts, beta } = cublaslt.products.at(-1)!
      return { attributes: Object.fromEntries(attributes), types: layouts.map(({ type }) => type), beta }
    }
    const fp8 = { 3: 1n, 25: 1n, 17: scales.bScale, 18: scales.aScale }
    const types = [28, 28, 14, 14]
    expect(attributesOf({ precision: 'fp8' })).toEqual({ attributes: fp8, types, beta: 0 })
    expect(attributesOf({ precision: 'fp8-rowwise', accumulate: true })).toEqual({
      attributes: { ...fp8, 31: 3n, 32: 3n },
      types,
      beta: 1,
    })
    expect(attributesOf({ precision: 'fp8', bias: true }, { bias })).toEqual({
      attributes: { ...fp8, 7: 4n, 26: 14n, 8: bias },
      types,
      beta: 0,
    })
  })

  it('follows the operands from launch to launch', async () => {
    const { cublaslt, library, operands, scales, stream, buffer } = await open()
    const matmul = new Matmul(library, { ...bf16, precision: 'fp8' })
    const [algorithm] = matmul.heuristics({ ...operands, ...scales })
    const other = { ...operands, aScale: buffer('x'), bScale: buffer('y') }
    for (const each of [{ ...operands, ...scales }, other]) matmul.launch(stream, each, algorithm!)
    const scale = c.CUBLASLT_MATMUL_DESC_B_SCALE_POINTER
    expect(cublaslt.products.map(({ attributes }) => attributes.get(scale))).toEqual([
      scales.aScale,
      other.aScale,
    ])
  })

  it('refuses operands that do not fit the precision', async () => {
    const { library, operands, scales } = await open()
    const fp8 = new Matmul(library, { ...bf16, precision: 'fp8' })
    expect(thrownBy(() => fp8.heuristics(operands)).message).toContain('a fp8 matmul without a pointer')
    const plain = new Matmul(library, bf16)
    expect(thrownBy(() => plain.heuristics({ ...operands, ...scales })).message).toContain(
      'a bf16 matmul with',
    )
  })

  it('tells what the GPU cannot do', async () => {
    const { cublaslt, library, operands, scales } = await open()
    const wrong = { precision: 'fp8', inner: 72 } as const
    expect(thrownBy(() => new Matmul(library, { ...bf16, ...wrong })).message).toBe(
      'no fp8 matrix product of 3 x 72 by 48 x 72 on this GPU: the inner size must be a multiple of 16, the columns one of 8; use --precision bf16',
    )
    const matmul = new Matmul(library, { ...bf16, precision: 'fp8-rowwise' })
    const given = { ...operands, ...scales }
    cublaslt.algorithms = []
    expect(thrownBy(() => matmul.heuristics(given))).toMatchObject({ code: 'MATMUL_UNSUPPORTED' })
    cublaslt.algorithms = [{ durationMs: 1, state: 15 }]
    expect(thrownBy(() => matmul.heuristics(given))).toMatchObject({ code: 'MATMUL_UNSUPPORTED' })
    cublaslt.status = c.CUBLAS_STATUS_NOT_SUPPORTED
    expect(thrownBy(() => matmul.heuristics(given)).message).toContain('answered 15 STATUS_15')
    cublaslt.status = 14
    expect(thrownBy(() => matmul.heuristics(given)).code).toBe('CUBLAS_STATUS')
    // No preference is left behind by any of these.
    expect(cublaslt.live.filter((kind) => kind === 'preference')).toEqual([])
  })

  it('leaves out what needs more workspace than there is', async () => {
    const { cublaslt, library, operands } = await open()
    const matmul = new Matmul(library, bf16)
    cublaslt.algorithms = [
      { durationMs: 1, workspaceBytes: 4097 },
      { durationMs: 2, workspaceBytes: 4096 },
    ]
    const found = matmul.heuristics(operands)
    expect(found.map(({ workspaceBytes }) => workspaceBytes)).toEqual([4096])
    expect(found[0]).toMatchObject(matmul.check(found[0]!.bytes)!)
    cublaslt.algorithms = [{ durationMs: 1 }, { durationMs: 2, workspaceBytes: 5000 }]
    expect(matmul.check(found[0]!.bytes)).toBeUndefined()
  })
})
