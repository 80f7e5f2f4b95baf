/** What should be right before a run, each with its fix. Nothing of it stops the run: it explains the result. */
import { existsSync, readFileSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { freemem, loadavg } from 'node:os'
import { join } from 'node:path'

export interface PreflightItem {
  readonly name: string
  readonly isFine: boolean
  readonly text: string
  readonly fix?: string
}

const minFreeBytes = 2 ** 30

/** @param folder where the results go */
export async function preflight(
  folder: string,
  machine: { usableCores: number; hasGpu: boolean },
): Promise<PreflightItem[]> {
  const load = loadavg()[0]!
  const disk = await statfs(folder)
  const diskBytes = disk.bavail * disk.bsize
  const governor = readGovernor()
  return [
    check(
      'quiet machine',
      load <= machine.usableCores / 2,
      `load average ${load.toFixed(2)} on ${machine.usableCores} cores`,
      'stop what else runs; the figures are noisy, the comparisons only take longer',
    ),
    check(
      'free memory',
      freemem() >= minFreeBytes,
      `${toGb(freemem())} GB`,
      'two copies of the model are in memory during an experiment: free some',
    ),
    check(
      'way back',
      true,
      `${existsSync(join(folder, 'tuned.json')) ? 'tuned.json is there and stays as tuned.json.backup; ' : ''}'rollback' returns to the baseline and to every step, TensorRT's plans stay in the cache`,
      '',
    ),
    check('free disk', diskBytes >= minFreeBytes, `${toGb(diskBytes)} GB in ${folder}`, 'free some'),
    check(
      'CPU clock',
      governor === undefined || governor === 'performance',
      governor === undefined ? 'not told by this system' : `governor ${governor}`,
      'cpupower frequency-set -g performance',
    ),
    check(
      'GPU',
      true,
      machine.hasGpu ? 'an NVIDIA GPU is there' : 'none: stages that need one are skipped',
      '',
    ),
  ]
}

export function formatPreflight(items: readonly PreflightItem[]): string {
  return items
    .map(({ name, isFine, text, fix }) => {
      const line = `${isFine ? ' ok ' : 'note'}  ${name.padEnd(14)} ${text}`
      return fix === undefined ? line : `${line}\n${' '.repeat(21)}fix: ${fix}`
    })
    .join('\n')
}

function check(name: string, isFine: boolean, text: string, fix: string): PreflightItem {
  return isFine ? { name, isFine, text } : { name, isFine, text, fix }
}

function readGovernor(): string | undefined {
  try {
    return readFileSync('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor', 'utf8').trim()
  } catch {
    return undefined
  }
}

function toGb(bytes: number): string {
  return (bytes / 1e9).toFixed(1)
}
