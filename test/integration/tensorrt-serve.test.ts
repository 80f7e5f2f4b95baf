/** serve --engine tensorrt as a user runs it, on a driver and a TensorRT written in C: from a folder to vectors over HTTP. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { normalizeRows } from '../../src/engines/vectors.ts'
import { canCompile } from '../fakes/native-library.ts'
import { writeNvidiaLibraries } from '../fakes/nvidia-libraries.ts'
import { textVector } from '../fakes/tensorrt.ts'
import { mainFile, startServe } from '../fixtures/serve-process.ts'
import { readTinyGolden, tinyHiddenSize, writeTinyBert } from '../fixtures/tiny-model.ts'

let root: string
let model: string
let texts: { text: string; vector: Float32Array }[]

const environment = (): Record<string, string> => ({
  PATH: process.env['PATH']!,
  HOME: root,
  LD_LIBRARY_PATH: join(root, 'libraries'),
  AKIDB_CACHE_DIR: join(root, 'cache'),
  AKIDB_OFFLINE: 'true',
  AKIDB_ENGINE: 'tensorrt',
  AKIDB_PROFILES: 'low=1/1/2,high=3/4/8',
  // The driver in C replays nothing.
  AKIDB_CUDA_GRAPHS: '0',
  FAKE_NVINFER: 'describe=1',
  FAKE_NVINFER_DIMENSIONS: String(tinyHiddenSize),
  FAKE_NVINFER_BUILDS: join(root, 'builds'),
})

const countBuilds = async () =>
  (await readFile(join(root, 'builds'), 'utf8').catch(() => '')).split('\n').length - 1

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'akidb-serve-'))
  model = join(root, 'tiny-bert')
  await writeTinyBert(model)
  texts = (await readTinyGolden()).texts.map(({ text, ids }) => {
    const vector = textVector(ids, tinyHiddenSize)
    normalizeRows(vector, 1, tinyHiddenSize)
    return { text, vector }
  })
})
afterAll(() => rm(root, { recursive: true }))

/** What the fake model gives, in the model's folder: the engine must match it before it serves. */
async function writeGolden(scale: number): Promise<void> {
  const items = texts.map(({ text, vector }) => ({
    text,
    vector: Buffer.from(vector.map((value, i) => value * (i === 0 ? scale : 1)).buffer).toString('base64'),
  }))
  await writeFile(join(model, 'golden.json'), JSON.stringify({ madeBy: 'this test', items }))
}

describe.skipIf(!canCompile || process.platform !== 'linux')('serve --engine tensorrt', () => {
  beforeAll(() => writeNvidiaLibraries(join(root, 'libraries')))

  it('refuses without a plan, with the command that builds it, and builds nothing', async () => {
    await writeGolden(1)
    const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
      const args = [mainFile, 'serve', '--model', model, '--port', '0']
      execFile(process.execPath, args, { env: environment() }, (error, _, text) =>
        resolve({ code: error?.code, stderr: text }),
      )
    })
    expect([code, stderr]).toEqual([1, expect.stringContaining(`'akidb-embedding build ${model}'`)])
    expect(await countBuilds()).toBe(0)
  })

  it('builds once where it may, serves the vectors of the plan, and tells what it is', async () => {
    for (const [start, flags] of [
      ['first', ['--build-engines']],
      ['second', []],
    ] as const) {
      await using server = await startServe(['--model', model, '--port', '0', ...flags], environment())
      expect(await countBuilds(), `builds after the ${start} start`).toBe(1)
      const inputs = texts.map(({ text }) => text)
      const response = await fetch(`${server.url}/embed`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ inputs }),
      })
      const vectors = (await response.json()) as number[][]
      texts.forEach(({ vector }, i) => {
        vector.forEach((value, k) => expect(vectors[i]![k]).toBeCloseTo(value, 5))
      })
      const info = (await (await fetch(`${server.url}/info`)).json()) as object
      expect(info).toMatchObject({
        engine: { name: 'tensorrt', device: 'Fake 0', precision: 'bf16', runtime_version: '10.6.0' },
        golden: { source: 'folder', made_by: 'this test' },
        max_input_length: 64,
      })
      const metrics = await (await fetch(`${server.url}/metrics`)).text()
      expect(metrics).toMatch(/^embed_gpu_launches_total\{kind="plain"\} [1-9]/m)
      expect(metrics).toMatch(/^embed_gpu_memory_bytes\{gpu="GPU-[^"]+",state="free"\} 5368709120$/m)
      server.child.kill('SIGTERM')
      expect(await server.ended).toBe(0)
    }
  })

  it('does not serve vectors that differ from the golden ones', async () => {
    await writeGolden(-40)
    const args = [mainFile, 'serve', '--model', model, '--port', '0']
    const stderr = await new Promise<string>((resolve) => {
      execFile(process.execPath, args, { env: environment() }, (_error, _, text) => resolve(text))
    })
    expect(stderr).toContain('the tensorrt engine at bf16 disagrees with the golden vectors')
  })
})
