/** What may explain a measurement: the machine, and what else it did. */
import { readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { readCpu } from '../../hardware/machine/cpu.ts'

export interface MachineState {
  readonly cpu: string
  readonly usableCores: number
  readonly cpuFeatures: readonly string[]
  readonly node: string
  readonly platform: string
}

export function readMachine(): MachineState {
  const { model, usableCores, features } = readCpu()
  return {
    cpu: model,
    usableCores,
    cpuFeatures: [...features],
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
  }
}

export interface MachineSample {
  /** Processes that ran or wanted to, over the last minute. */
  readonly loadAverage: number
  /** Mean over the cores; null where the system does not tell. */
  readonly clockMhz: number | null
}

export function sampleMachine(): MachineSample {
  const clocks = [...readCpuInfo().matchAll(/^cpu MHz\s*: (\S+)$/gm)].map((match) => Number(match[1]))
  const sum = clocks.reduce((total, clock) => total + clock, 0)
  return { loadAverage: loadavg()[0]!, clockMhz: clocks.length === 0 ? null : sum / clocks.length }
}

function readCpuInfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8')
  } catch {
    return ''
  }
}
