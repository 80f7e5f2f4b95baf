import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { classifyTimes } from './kernel-classes.ts'
import { nsysProfileArguments, nsysStatsArguments, parseNsysStats } from './nsys.ts'

/** The layout is that of nsys 2025.1, the figures are made up. */
const stats = readFileSync(new URL('../../../test/fixtures/nsys-stats.csv', import.meta.url), 'utf8')

describe('nsys stats', () => {
  it('gives the same tables as our own records', () => {
    const { kernels, apiCalls, memoryOperations } = parseNsysStats(stats)
    expect(kernels).toHaveLength(4)
    expect(kernels[0]).toEqual({
      name: 'nvjet_qqtst_128x256_128x6_2x1_2cta_v_bz_TNT',
      timePercent: 71.3,
      totalNs: 25_353_472,
      instances: 720,
      avgNs: 35_213.2,
      medNs: 35_136,
      minNs: 33_984,
      maxNs: 38_720,
      stddevNs: 512.7,
    })
    expect(kernels[2]!.name).toBe(
      'void cublasLt::splitKreduce_kernel<(int)32, (int)16, int, __nv_bfloat16, float>(cublasLt::cublasSplitKParams<T6>, const T4 *)',
    )
    expect(apiCalls.map(({ name, instances }) => [name, instances])).toEqual([
      ['cuMemHostAlloc', 1],
      ['cuGraphLaunch', 20],
    ])
    expect(memoryOperations.map(({ name, totalNs }) => [name, totalNs])).toEqual([
      ['[CUDA memcpy Host-to-Device]', 57_922],
      ['[CUDA memcpy Device-to-Host]', 38_454],
    ])
    expect(classifyTimes(kernels).map(({ kernelClass, share }) => [kernelClass, share.toFixed(3)])).toEqual([
      ['FP8 GEMM', '0.713'],
      ['attention', '0.224'],
      ['elementwise', '0.063'],
    ])
  })

  it('of one report, with quotes, and without the columns of newer versions', () => {
    const kernels =
      '"Time (%)","Total Time (ns)","Instances","Avg (ns)","Name"\n"75.0","300,000","3","100000.0","k<1, 2>"\n'
    expect(parseNsysStats(`NOTICE: Existing SQLite export found.\n${kernels}`)).toMatchObject({
      kernels: [{ name: 'k<1, 2>', totalNs: 300_000, instances: 3, medNs: 0 }],
      apiCalls: [],
      memoryOperations: [],
    })
  })

  it('of nothing is refused, in its own words', () => {
    const skipped = 'SKIPPED: /tmp/profile.sqlite does not contain CUDA kernel data.'
    expect(thrownBy(() => parseNsysStats(`Processing [x]...\n${skipped}\n`))).toMatchObject({
      code: 'FILE_FORMAT',
      message: expect.stringContaining(skipped),
    })
    expect(thrownBy(() => parseNsysStats(''))).toMatchObject({ code: 'FILE_FORMAT' })
  })

  it('is asked for what the parser reads, graphs node by node', () => {
    expect(nsysStatsArguments('/tmp/p.nsys-rep').join(' ')).toBe(
      'stats --force-export=true --format=csv --output=- --report=cuda_gpu_kern_sum,cuda_api_sum,cuda_gpu_mem_time_sum /tmp/p.nsys-rep',
    )
    const run = nsysProfileArguments('/tmp/p', ['node', 'main.js', 'serve'])
    expect(run).toContain('--cuda-graph-trace=node')
    expect(run.slice(-4)).toEqual(['--output=/tmp/p', 'node', 'main.js', 'serve'])
  })
})
