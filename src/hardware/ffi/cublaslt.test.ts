import { describe, expect, it } from 'vitest'
import { openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { canCompile, compileNative } from '../../../test/fakes/native-library.ts'
import { Matmul, MatmulLibrary } from '../gpu/matmul.ts'
import { GpuStream } from '../gpu/stream.ts'
import { loadCublaslt } from './cublaslt.ts'
import type { DevicePointer } from './cuda.ts'
import { loadLibrary } from './library.ts'

const pointer = (value: bigint) => value as DevicePointer

describe.skipIf(!canCompile)('cuBLASLt, from C', () => {
  it('carries a product from its description to its free', async () => {
    const path = compileNative('cublaslt')
    const cublaslt = loadCublaslt(path)
    expect(loadCublaslt(path)).toBe(cublaslt)
    const fakes = loadLibrary(path)
    const { gpu } = await openFakeGpu()
    const stream = new GpuStream(gpu, 's')

    fakes.declare<[number], void>('void fake_fail(int status)')(7)
    expect(thrownBy(() => new MatmulLibrary(gpu, cublaslt)).message).toBe(
      "cuBLASLt's cublasLtCreate answered 7 CUBLAS_STATUS_INVALID_VALUE: invalid value",
    )

    const library = new MatmulLibrary(gpu, cublaslt, { workspaceBytes: 4096 })
    expect(library.version).toBe(130_401)
    const shape = { precision: 'fp8', rows: 3, columns: 48, inner: 64, accumulate: true } as const
    const matmul = new Matmul(library, shape)
    const operands = {
      a: pointer(0xa0n),
      b: pointer(0xb0n),
      d: pointer(0xd0n),
      aScale: pointer(0xa5n),
      bScale: pointer(0x7f00_0000_00b5n),
    }
    const found = matmul.heuristics(operands, 4)
    expect(found.map(({ workspaceBytes }) => workspaceBytes)).toEqual([5 * 2 ** 30, 4096])
    expect(new BigUint64Array(found[1]!.bytes.buffer)).toEqual(
      BigUint64Array.from({ length: 8 }, (_, i) => 0x300n + BigInt(i)),
    )
    expect(matmul.check(found[0]!.bytes)).toEqual({ bytes: found[0]!.bytes, workspaceBytes: 64 })
    matmul.launch(stream, operands, found[1]!)
    const workspace = `0x${library.workspace.handle.toString(16)}`
    const handleOfStream = `0x${stream.handle.toString(16)}`
    library[Symbol.dispose]()
    const pointers = [
      'cublasLtMatmulDescSetAttribute 0x2000 17 = 0x7f00000000b5 of 8 bytes',
      'cublasLtMatmulDescSetAttribute 0x2000 18 = 0xa5 of 8 bytes',
    ]
    expect(fakes.declare<[], string>('const char *fake_calls()')().trim().split('\n')).toEqual([
      'cublasLtMatmulDescCreate 68 0',
      'cublasLtMatrixLayoutCreate 28 64 x 48, 64',
      'cublasLtMatrixLayoutCreate 28 64 x 3, 64',
      'cublasLtMatrixLayoutCreate 14 48 x 3, 48',
      'cublasLtMatmulDescSetAttribute 0x2000 3 = 0x1 of 4 bytes',
      'cublasLtMatmulDescSetAttribute 0x2000 25 = 0x1 of 1 bytes',
      ...pointers,
      'cublasLtMatmulPreferenceSetAttribute 0x4000 1 = 0x1000 of 8 bytes',
      'cublasLtMatmulAlgoGetHeuristic 0x1000 0x2000 0x3001 0x3002 0x3003 0x3003 0x4000 4',
      'cublasLtMatmulPreferenceDestroy 0x4000',
      'cublasLtMatmulAlgoCheck 0x107',
      ...pointers,
      `cublasLtMatmul 0x1000 0x2000 1 0xb0 0x3001 0xa0 0x3002 1 0xd0 0x3003 0xd0 0x3003 0x307 ${workspace} 4096 ${handleOfStream}`,
      'cublasLtMatrixLayoutDestroy 0x3001',
      'cublasLtMatrixLayoutDestroy 0x3002',
      'cublasLtMatrixLayoutDestroy 0x3003',
      'cublasLtMatmulDescDestroy 0x2000',
      'cublasLtDestroy 0x1000',
    ])
  })

  it('configures an algorithm', async () => {
    const path = compileNative('cublaslt')
    const cublaslt = loadCublaslt(path)
    const fakes = loadLibrary(path)
    const { gpu } = await openFakeGpu()
    const library = new MatmulLibrary(gpu, cublaslt, { workspaceBytes: 4096 })
    const types = [library.handle, 68, 0, 28, 28, 14, 14] as const
    const [ids, count]: [Int32Array, [number | null]] = [new Int32Array(4), [null]]
    fakes.declare<[], string>('const char *fake_calls()')()
    cublaslt.cublasLtMatmulAlgoGetIds(...types, 4, ids, count)
    expect([...ids.subarray(0, count[0]!)]).toEqual([6, 66])
    const algorithm = new Uint8Array(64)
    cublaslt.cublasLtMatmulAlgoInit(...types, 66, algorithm)
    expect(new BigUint64Array(algorithm.buffer)[7]).toBe(0x42007n)
    cublaslt.cublasLtMatmulAlgoCapGetAttribute(algorithm, 13, new Uint8Array(0), 0, count)
    expect(count).toEqual([12])
    const stages = new Uint8Array(12)
    cublaslt.cublasLtMatmulAlgoCapGetAttribute(algorithm, 13, stages, 12, count)
    expect([...new Int32Array(stages.buffer)]).toEqual([13, 14, 15])
    cublaslt.cublasLtMatmulAlgoConfigSetAttribute(algorithm, 8, Uint16Array.of(513), 2)
    const value = new Uint8Array(2)
    cublaslt.cublasLtMatmulAlgoConfigGetAttribute(algorithm, 8, value, 2, count)
    expect([[...value], count]).toEqual([[1, 2], [2]])
    library[Symbol.dispose]()
    expect(fakes.declare<[], string>('const char *fake_calls()')().trim().split('\n').slice(0, -1)).toEqual([
      'cublasLtMatmulAlgoGetIds 0x1000 68 0 28 28 14 14 4',
      'cublasLtMatmulAlgoInit 0x1000 68 0 28 28 14 14 66',
      'cublasLtMatmulAlgoCapGetAttribute 0x42000 13 0',
      'cublasLtMatmulAlgoCapGetAttribute 0x42000 13 12',
      'cublasLtMatmulAlgoConfigSetAttribute 0x42000 8 = 0x201 of 2 bytes',
      'cublasLtMatmulAlgoConfigGetAttribute 0x42000 8 2',
    ])
  })
})
