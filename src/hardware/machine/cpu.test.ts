import { describe, expect, it } from 'vitest'
import {
  countPhysicalCores,
  parseCgroupPaths,
  parseCpuInfo,
  parseCpuList,
  parseCpuMax,
  readCpu,
} from './cpu.ts'

/** Cut from /proc/cpuinfo of a Xeon with hyper-threading: 2 sockets of 1 core of 2 threads. */
const xeon = [0, 1, 2, 3]
  .map((id) =>
    [
      `processor\t: ${id}`,
      'vendor_id\t: GenuineIntel',
      'model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz',
      `physical id\t: ${id >> 1}`,
      'siblings\t: 2',
      'core id\t\t: 0',
      'cpu cores\t: 1',
      'flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8',
      'bugs\t\t: spectre_v1 : spectre_v2',
    ].join('\n'),
  )
  .join('\n\n')

/** Cut from /proc/cpuinfo of a Graviton 3. */
const arm = `processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd asimddp sve i8mm bf16 dgh rng
CPU implementer\t: 0x41

processor\t: 1
BogoMIPS\t: 2100.00
Features\t: fp asimd asimddp sve i8mm bf16 dgh rng
CPU implementer\t: 0x41
`

describe('parseCpuInfo', () => {
  it('reads x86', () => {
    const info = parseCpuInfo(xeon)
    expect(info.model).toBe('Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz')
    expect([...info.features].sort()).toEqual([
      'AMX_BF16',
      'AMX_INT8',
      'AVX2',
      'AVX512F',
      'AVX512_BF16',
      'AVX512_FP16',
      'AVX512_VNNI',
    ])
    expect(info.processors).toEqual([
      { id: 0, core: '0:0' },
      { id: 1, core: '0:0' },
      { id: 2, core: '1:0' },
      { id: 3, core: '1:0' },
    ])
  })

  it('reads arm64, which names no model and no cores', () => {
    const info = parseCpuInfo(arm)
    expect(info.model).toBeUndefined()
    expect([...info.features].sort()).toEqual(['NEON_BF16', 'NEON_I8MM'])
    expect(info.processors.map(({ core }) => core)).toEqual([undefined, undefined])
  })

  it('knows nothing of an empty text', () => {
    expect(parseCpuInfo('')).toEqual({ model: undefined, features: new Set(), processors: [] })
  })
})

describe('countPhysicalCores', () => {
  it('counts the cores that the allowed processors belong to', () => {
    const { processors } = parseCpuInfo(xeon)
    expect(countPhysicalCores(processors, new Set())).toBe(2)
    expect(countPhysicalCores(processors, new Set([0, 1]))).toBe(1)
    expect(countPhysicalCores(processors, new Set([1, 2]))).toBe(2)
    expect(countPhysicalCores(parseCpuInfo(arm).processors, new Set())).toBeUndefined()
  })
})

describe('control groups', () => {
  it.each([
    ['max 100000\n', Infinity],
    ['150000 100000\n', 1.5],
    ['-1 100000', Infinity],
    ['', Infinity],
  ])('%j grants %d cores', (text, cores) => {
    expect(parseCpuMax(text)).toBe(cores)
  })

  it('walks from the own group to the root', () => {
    expect(parseCgroupPaths('0::/system.slice/app.service\n')).toEqual([
      '/system.slice/app.service',
      '/system.slice',
      '',
    ])
    expect(parseCgroupPaths('12:cpu:/docker/ab\n0::/\n')).toEqual([''])
  })
})

it('parseCpuList reads ranges', () => {
  expect([...parseCpuList('0-2,7\n')]).toEqual([0, 1, 2, 7])
  expect(parseCpuList('').size).toBe(0)
})

it('readCpu finds at least one core here', () => {
  const cpu = readCpu()
  expect(cpu.usableCores).toBeGreaterThanOrEqual(1)
  expect(cpu.usableCores).toBeLessThanOrEqual(cpu.logicalCores)
  expect(cpu.physicalCores).toBeLessThanOrEqual(cpu.logicalCores)
  expect(cpu.model).not.toBe('')
})
