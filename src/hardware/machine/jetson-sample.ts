/** A Jetson's GPU by the files of its drivers, where NVML does not know it (Orin, Xavier).
 * @see Jetson Linux Developer Guide, "Power and Performance"; jetson-stats reads the same */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { attempt, type GpuSample } from './gpu-sample.ts'

/** @param root of the file system
 * @returns undefined where there is no such GPU */
export function readJetsonSample(root = '/'): GpuSample | undefined {
  const device = findDevice(join(root, 'sys/class/devfreq'))
  if (device === undefined) return undefined
  const memory = readMemory(join(root, 'proc/meminfo'))
  return {
    uuid: 'jetson',
    // Per mille.
    utilisation: divide(readNumber(join(device, 'device/load')), 1e3),
    memoryUtilisation: undefined,
    usedBytes: memory?.usedBytes,
    totalBytes: memory?.totalBytes,
    clockMhz: divide(readNumber(join(device, 'cur_freq')), 1e6),
    memoryClockMhz: undefined,
    powerWatts: readPower(join(root, 'sys/class/hwmon')),
    powerLimitWatts: undefined,
    temperatureCelsius: readTemperature(join(root, 'sys/class/thermal')),
    throttleReasons: undefined,
  }
}

/** gp10b: TX2, gv11b: Xavier, ga10b: Orin. Newer device trees say 'gpu'. */
const gpuNames = new Set(['gp10b', 'gv11b', 'ga10b', 'gpu'])

function findDevice(folder: string): string | undefined {
  return list(folder)
    .map((name) => join(folder, name))
    .find((device) => gpuNames.has(readText(join(device, 'device/of_node/name'))?.replace(/\0$/, '') ?? ''))
}

/** The GPU's memory is the machine's. */
function readMemory(path: string): { readonly usedBytes: number; readonly totalBytes: number } | undefined {
  const text = readText(path)
  const kib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text ?? '')?.[1])
  const [total, available] = [kib('MemTotal'), kib('MemAvailable')]
  return Number.isNaN(total + available)
    ? undefined
    : { usedBytes: (total - available) * 1024, totalBytes: total * 1024 }
}

/** The thermal zone of the GPU: 'gpu-thermal' (Orin), 'GPU-therm' (Xavier). */
function readTemperature(folder: string): number | undefined {
  const zone = list(folder).find((name) => /^gpu-therm/i.test(readText(join(folder, name, 'type')) ?? ''))
  return zone === undefined ? undefined : divide(readNumber(join(folder, zone, 'temp')), 1e3)
}

/** The rail that feeds the GPU, of an INA3221: VDD_GPU_SOC (Orin), GPU (Xavier), VDD_CPU_GPU_CV (Orin NX, Nano). */
function readPower(folder: string): number | undefined {
  for (const sensor of list(folder)) {
    const path = join(folder, sensor)
    const rail = list(path).find(
      (name) => /^in\d+_label$/.test(name) && /(?:^|_)GPU(?:_|$)/.test(readText(join(path, name)) ?? ''),
    )
    if (rail === undefined) continue
    const channel = /\d+/.exec(rail)![0]
    const millivolts = readNumber(join(path, `in${channel}_input`))
    const milliamperes = readNumber(join(path, `curr${channel}_input`))
    if (millivolts !== undefined && milliamperes !== undefined) return (millivolts * milliamperes) / 1e6
  }
  return undefined
}

function list(folder: string): string[] {
  return attempt(() => readdirSync(folder).sort()) ?? []
}

function readText(path: string): string | undefined {
  return attempt(() => readFileSync(path, 'utf8').trim())
}

function readNumber(path: string): number | undefined {
  const text = readText(path)
  const value = Number(text)
  return text === undefined || text === '' || Number.isNaN(value) ? undefined : value
}

function divide(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : value / by
}
