/** profile on a GPU as a user runs it, on a driver, a TensorRT and a CUPTI written in C. */
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { normalizeRows } from '../../src/engines/vectors.ts'
import type { EngineProfile } from '../../src/tuning/profiler/profile-engine.ts'
import type { TraceEvent } from '../../src/tuning/profiler/trace.ts'
import { canCompile, compileNative } from '../fakes/native-library.ts'
import { writeNvidiaLibraries } from '../fakes/nvidia-libraries.ts'
import { textVector } from '../fakes/tensorrt.ts'
import { mainFile } from '../fixtures/serve-process.ts'
import { readTinyGolden, tinyHiddenSize, writeTinyBert } from '../fixtures/tiny-model.ts'

describe.skipIf(!canCompile || process.platform !== 'linux')('profile --engine tensorrt', () => {
  let root: string
  const at = (...parts: string[]) => join(root, ...parts)
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'akidb-profile-'))
    await writeTinyBert(at('tiny-bert'))
    // What the fake model gives: the engine must match it before it is measured.
    const items = (await readTinyGolden()).texts.map(({ text, ids }) => {
      const vector = textVector(ids, tinyHiddenSize)
      normalizeRows(vector, 1, tinyHiddenSize)
      return { text, vector: Buffer.from(vector.buffer).toString('base64') }
    })
    await writeFile(at('tiny-bert', 'golden.json'), JSON.stringify({ madeBy: 'this test', items }))
    await writeNvidiaLibraries(at('libraries'))
    await copyFile(compileNative('nvml'), at('libraries', 'libnvidia-ml.so.1'))
    await mkdir(at('cupti'))
    await copyFile(compileNative('cupti', { CUPTI_VERSION: 130_001 }), at('cupti', 'libcupti.so.13'))
  })
  afterAll(() => rm(root, { recursive: true }))

  const profile = (flags: readonly string[], environment: Record<string, string> = {}) => {
    const env = {
      PATH: process.env['PATH']!,
      HOME: root,
      LD_LIBRARY_PATH: `${at('libraries')}:${at('cupti')}`,
      AKIDB_CACHE_DIR: at('cache'),
      AKIDB_OFFLINE: 'true',
      AKIDB_ENGINE: 'tensorrt',
      AKIDB_BUILD_ENGINES: 'true',
      AKIDB_PROFILES: 'low=1/1/2,high=3/4/8',
      // The driver in C replays nothing.
      AKIDB_CUDA_GRAPHS: '0',
      FAKE_NVINFER: 'describe=1',
      FAKE_NVINFER_DIMENSIONS: String(tinyHiddenSize),
      FAKE_CUPTI_SERVES: '1',
      ...environment,
    }
    const args = [mainFile, 'profile', '--model', at('tiny-bert'), '--texts', '16', ...flags]
    return new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      execFile(process.execPath, args, { env, timeout: 60_000 }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
      )
    })
  }

  it('shows kernels, copies and pauses, and writes them as JSON and as a trace', async () => {
    const files = ['--json', at('profile.json'), '--trace', at('trace.json')]
    const { code, stdout, stderr } = await profile(['--iterations', '20', '--api', ...files])
    expect([code, stdout], stderr).toEqual([0, expect.stringContaining('GPU busy')])
    expect(stdout).toMatch(/ {2}swiglu$/m)
    expect(stdout).toMatch(/ {2}cutlass::device_kernel\(int\)$/m)
    expect(stdout).toMatch(/ {2}host to device, pinned$/m)
    expect(stdout).toMatch(/ {2}memset device -> memcpy pinned to device$/m)
    expect(stdout).toMatch(/ {2}cuLaunchKernel$/m)
    // No cuBLASLt here that could tell what this GPU does at most.
    expect(stdout).toMatch(/^products: [\d.]+ TFLOPS, weights read at \d+ GB\/s$/m)
    expect(stdout).toMatch(/^(pass|FAIL) {2}GPU utilisation: \d+ % \(> 80 %\)$/m)

    const { gpu } = JSON.parse(await readFile(at('profile.json'), 'utf8')) as EngineProfile
    expect(gpu!.kernels.map(({ name, medNs }) => [name, medNs])).toEqual(
      expect.arrayContaining([
        ['swiglu', 2000],
        ['cutlass::device_kernel(int)', 2000],
      ]),
    )
    expect(gpu!.droppedRecords).toBe(0)

    const trace = JSON.parse(await readFile(at('trace.json'), 'utf8')) as { traceEvents: TraceEvent[] }
    const rows = trace.traceEvents.flatMap(({ name, args }) => (name === 'thread_name' ? [args['name']] : []))
    expect(rows).toEqual(
      expect.arrayContaining(['requests', 'batches', 'stream 13', 'CUDA calls of thread 4711']),
    )
    // One axis: kernels ran while requests were under way.
    const times = (wanted: string) =>
      trace.traceEvents.flatMap((event) => (event.ph === 'X' && event.name === wanted ? [event.ts] : []))
    const batches = trace.traceEvents.filter(
      ({ ph, tid }) => ph === 'X' && tid === rows.indexOf('batches') + 1,
    )
    const ends = batches.map((event) => (event.ph === 'X' ? event.ts + event.dur : 0))
    const kernels = times('swiglu')
    expect(Math.min(...kernels)).toBeLessThan(Math.max(...ends))
    expect(Math.max(...kernels)).toBeLessThan(Math.max(...ends) + 50_000)
  })

  it("has the driver's view beside the records' where the run is long enough for a sample", async () => {
    const { code, stdout, stderr } = await profile(['--iterations', '3000', '--json', at('long.json')])
    expect(code, stderr).toBe(0)
    expect(stdout).toMatch(
      /^driver, GPU-\S+: 93 % busy, 1755 MHz, 612 of 700 W, 64 °C, held back by power limit$/m,
    )
    const { gpuLoads } = JSON.parse(await readFile(at('long.json'), 'utf8')) as EngineProfile
    expect(gpuLoads![0]).toMatchObject({
      utilisation: expect.closeTo(0.93, 9),
      powerWatts: expect.closeTo(612.345, 9),
      usedBytes: 92 * 2 ** 30,
    })
  })

  it('tells what is in the way', async () => {
    const missing = await profile([], { LD_LIBRARY_PATH: at('libraries') })
    expect([missing.code, missing.stderr]).toEqual([
      1,
      expect.stringContaining('CUPTI was not found; searched:'),
    ])
    const refused = await profile([], { FAKE_CUPTI_FAILS: 'cuptiActivityEnable 35' })
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining('NVreg_RestrictProfilingToAdminUsers=0'),
    ])
    const busy = await profile([], { FAKE_CUPTI_FAILS: 'cuptiSubscribe 39' })
    expect([busy.code, busy.stderr]).toEqual([1, expect.stringContaining('error PROFILER_BUSY: ')])
  })
})
