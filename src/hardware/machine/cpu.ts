/** What the processor is and how much of it this process may use. */
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'

export const cpuFeatures = [
  'AVX2',
  'AVX512F',
  'AVX512_VNNI',
  'AVX512_BF16',
  'AVX512_FP16',
  'AMX_BF16',
  'AMX_INT8',
  'NEON_BF16',
  'NEON_I8MM',
] as const
export type CpuFeature = (typeof cpuFeatures)[number]

export interface Cpu {
  readonly model: string
  /** Logical processors that this process may run on. */
  readonly logicalCores: number
  /** Physical cores among them; the logical ones where the system does not tell. */
  readonly physicalCores: number
  /** CPU time that the control groups grant, in cores; Infinity without a quota. */
  readonly quotaCores: number
  /** Threads worth starting: physical cores, cut by the quota; at least 1. */
  readonly usableCores: number
  readonly features: ReadonlySet<CpuFeature>
}

/** Reads /proc and /sys on Linux; elsewhere features are unknown (empty). */
export function readCpu(): Cpu {
  const info = parseCpuInfo(readOrEmpty('/proc/cpuinfo'))
  const logicalCores = availableParallelism()
  const allowed = parseCpuList(
    /^Cpus_allowed_list:\s*(.*)$/m.exec(readOrEmpty('/proc/self/status'))?.[1] ?? '',
  )
  const physicalCores = countPhysicalCores(info.processors, allowed) ?? logicalCores
  const quotaCores = readQuota()
  return {
    model: info.model ?? cpus()[0]?.model ?? 'unknown',
    logicalCores,
    physicalCores,
    quotaCores,
    usableCores: Math.max(1, Math.min(physicalCores, Math.ceil(quotaCores))),
    features: info.features,
  }
}

export interface CpuInfo {
  readonly model: string | undefined
  readonly features: ReadonlySet<CpuFeature>
  /** `core` is unique over all sockets; undefined where the system does not tell. */
  readonly processors: readonly { readonly id: number; readonly core: string | undefined }[]
}

const featureFlags: Readonly<Record<string, CpuFeature>> = {
  avx2: 'AVX2',
  avx512f: 'AVX512F',
  avx512_vnni: 'AVX512_VNNI',
  avx512_bf16: 'AVX512_BF16',
  avx512_fp16: 'AVX512_FP16',
  amx_bf16: 'AMX_BF16',
  amx_int8: 'AMX_INT8',
  bf16: 'NEON_BF16',
  i8mm: 'NEON_I8MM',
}

/** @param text of /proc/cpuinfo, x86 or arm64 */
export function parseCpuInfo(text: string): CpuInfo {
  const blocks = text.split(/\n\s*\n/).map(parseBlock)
  const processors = blocks
    .filter((block) => block.has('processor'))
    .map((block) => {
      const core = block.get('core id')
      return {
        id: Number(block.get('processor')),
        core: core === undefined ? undefined : `${block.get('physical id') ?? 0}:${core}`,
      }
    })
  const first = blocks.find((block) => block.has('flags') || block.has('Features'))
  const flags = (first?.get('flags') ?? first?.get('Features') ?? '').split(' ')
  return {
    model: first?.get('model name'),
    features: new Set(flags.flatMap((flag) => featureFlags[flag] ?? [])),
    processors,
  }
}

function parseBlock(text: string): Map<string, string> {
  const pairs = text.split('\n').flatMap((line): [string, string][] => {
    const colon = line.indexOf(':')
    return colon === -1 ? [] : [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()]]
  })
  return new Map(pairs)
}

/** '0-3,8' -> 0 1 2 3 8; an empty text is an empty set. */
export function parseCpuList(text: string): ReadonlySet<number> {
  const ids = new Set<number>()
  for (const part of text.split(',').filter((range) => range.trim() !== '')) {
    const [from, to = from] = part.split('-').map(Number)
    for (let id = from!; id <= to!; id++) ids.add(id)
  }
  return ids
}

/** @param allowed ids of processors this process may run on; empty = all
 * @returns undefined where the system does not tell cores apart */
export function countPhysicalCores(
  processors: CpuInfo['processors'],
  allowed: ReadonlySet<number>,
): number | undefined {
  const usable = processors.filter(({ id }) => allowed.size === 0 || allowed.has(id))
  const cores = new Set(usable.map(({ core }) => core))
  return cores.size === 0 || cores.has(undefined) ? undefined : cores.size
}

/** @param text of a cgroup v2 cpu.max: 'max 100000', or quota and period in microseconds
 * @returns cores; Infinity when there is no quota */
export function parseCpuMax(text: string): number {
  const [quotaUs, periodUs] = text.trim().split(/\s+/).map(Number)
  return quotaUs! > 0 && periodUs! > 0 ? quotaUs! / periodUs! : Infinity
}

/** @param text of /proc/self/cgroup
 * @returns the v2 group's path and those above it, innermost first: '/a/b' -> '/a/b' '/a' '' */
export function parseCgroupPaths(text: string): string[] {
  const path = /^0::(.*)$/m.exec(text)?.[1] ?? '/'
  const parts = path.split('/').filter((part) => part !== '')
  return Array.from({ length: parts.length + 1 }, (_, i) =>
    parts
      .slice(0, parts.length - i)
      .map((part) => `/${part}`)
      .join(''),
  )
}

function readQuota(): number {
  const groups = parseCgroupPaths(readOrEmpty('/proc/self/cgroup'))
  const v2 = groups.map((group) => parseCpuMax(readOrEmpty(`/sys/fs/cgroup${group}/cpu.max`)))
  const v1 = parseCpuMax(
    `${readOrEmpty('/sys/fs/cgroup/cpu/cpu.cfs_quota_us')} ${readOrEmpty('/sys/fs/cgroup/cpu/cpu.cfs_period_us')}`,
  )
  return Math.min(...v2, v1)
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
