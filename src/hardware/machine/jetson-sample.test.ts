import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { readJetsonSample } from './jetson-sample.ts'

let root: string
beforeAll(async () => (root = await mkdtemp(join(tmpdir(), 'jetson-'))))
afterAll(() => rm(root, { recursive: true }))

/** The files that jetson-stats reads on an Orin and a Xavier, made by hand: no Jetson was at hand to record them. */
const meminfo = 'MemTotal:       31349888 kB\nMemFree:        20000000 kB\nMemAvailable:   25349888 kB\n'
const machines = {
  orin: {
    'proc/meminfo': meminfo,
    'sys/class/devfreq/15340000.vic/device/of_node/name': 'vic\0',
    'sys/class/devfreq/17000000.gpu/device/of_node/name': 'gpu\0',
    'sys/class/devfreq/17000000.gpu/device/load': '987\n',
    'sys/class/devfreq/17000000.gpu/cur_freq': '1300500000\n',
    'sys/class/thermal/thermal_zone0/type': 'cpu-thermal\n',
    'sys/class/thermal/thermal_zone0/temp': '48531\n',
    'sys/class/thermal/thermal_zone1/type': 'gpu-thermal\n',
    'sys/class/thermal/thermal_zone1/temp': '45875\n',
    'sys/class/hwmon/hwmon0/name': 'tmp451\n',
    'sys/class/hwmon/hwmon1/name': 'ina3221\n',
    'sys/class/hwmon/hwmon1/in1_label': 'VDD_GPU_SOC\n',
    'sys/class/hwmon/hwmon1/in1_input': '19680\n',
    'sys/class/hwmon/hwmon1/curr1_input': '1216\n',
    'sys/class/hwmon/hwmon1/in2_label': 'VDD_CPU_CV\n',
    'sys/class/hwmon/hwmon1/in2_input': '19680\n',
    'sys/class/hwmon/hwmon1/curr2_input': '300\n',
  },
  xavier: {
    'sys/class/devfreq/17000000.gv11b/device/of_node/name': 'gv11b\0',
    'sys/class/devfreq/17000000.gv11b/device/load': '0\n',
    'sys/class/devfreq/17000000.gv11b/cur_freq': '114750000\n',
    'sys/class/thermal/thermal_zone1/type': 'GPU-therm\n',
    'sys/class/thermal/thermal_zone1/temp': '31500\n',
  },
  desktop: { 'proc/meminfo': meminfo, 'sys/class/devfreq/x/device/of_node/name': 'dmc\0' },
}

async function write(machine: keyof typeof machines): Promise<string> {
  const folder = join(root, machine)
  for (const [path, text] of Object.entries(machines[machine])) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  return folder
}

it('reads load, clock, memory, temperature and the rail of an Orin', async () => {
  const sample = readJetsonSample(await write('orin'))!
  expect(sample).toMatchObject({
    uuid: 'jetson',
    utilisation: 0.987,
    clockMhz: 1300.5,
    usedBytes: 6_000_000 * 1024,
    totalBytes: 31_349_888 * 1024,
    temperatureCelsius: 45.875,
    throttleReasons: undefined,
  })
  expect(sample.powerWatts).toBeCloseTo(23.93, 2)
})

it('leaves out what a Xavier does not show', async () => {
  expect(readJetsonSample(await write('xavier'))).toMatchObject({
    utilisation: 0,
    clockMhz: 114.75,
    temperatureCelsius: 31.5,
    usedBytes: undefined,
    powerWatts: undefined,
  })
})

it('finds none elsewhere', async () => {
  expect(readJetsonSample(await write('desktop'))).toBeUndefined()
  expect(readJetsonSample(join(root, 'absent'))).toBeUndefined()
})
