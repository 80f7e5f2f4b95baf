/** tune on a driver and a TensorRT written in C: every stage of the GPU through the real program and its real processes. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { normalizeRows } from '../../src/engines/vectors.ts'
import { loadModelSpec } from '../../src/model/spec.ts'
import { createTokenizer } from '../../src/serving/tokenizer/worker-tokenizer.ts'
import { listQualityTexts } from '../../src/tuning/quality/assess-quality.ts'
import { makeQualityTexts } from '../../src/tuning/quality/quality-texts.ts'
import { loadReferenceVectors } from '../../src/tuning/quality/reference-vectors.ts'
import { type ExperimentEntry, readJournal } from '../../src/tuning/tuner/journal.ts'
import { readTunedFile } from '../../src/tuning/tuner/tuned-config.ts'
import { canCompile } from '../fakes/native-library.ts'
import { writeNvidiaLibraries } from '../fakes/nvidia-libraries.ts'
import { textVector } from '../fakes/tensorrt.ts'
import { mainFile } from '../fixtures/serve-process.ts'
import { readTinyGolden, tinyHiddenSize, writeTinyBert } from '../fixtures/tiny-model.ts'

let root: string
let model: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'akidb-tune-gpu-'))
  model = join(root, 'tiny-bert')
  await writeTinyBert(model)
  await writeReferences()
})
afterAll(() => rm(root, { recursive: true }))

/** The model whose vectors the fake TensorRT gives: golden ones in its folder, those of the quality check in the cache. */
async function writeReferences(): Promise<void> {
  const items = (await readTinyGolden()).texts.map(({ text, ids }) => ({
    text,
    vector: Buffer.from(toVector(ids).buffer).toString('base64'),
  }))
  await writeFile(join(model, 'golden.json'), JSON.stringify({ madeBy: 'this test', items }))
  const cacheDir = join(root, 'cache')
  const spec = await loadModelSpec(model, { cacheDir })
  await using tokenizer = await createTokenizer({ tokenizerPath: spec.files.tokenizer, workerCount: 0 })
  await loadReferenceVectors(listQualityTexts(makeQualityTexts(64)), {
    cacheDir,
    modelHash: spec.contentHash,
    dimensions: tinyHiddenSize,
    madeBy: `onnx fp32, ${spec.maxTokens} tokens`,
    embed: async (texts) => {
      const encoded = await tokenizer.encode(texts, { maxTokens: spec.maxTokens, truncation: 'right' })
      return encoded.map(({ ids }) => toVector([...ids]))
    },
  })
}

function toVector(ids: readonly number[]): Float32Array {
  const vector = textVector(ids, tinyHiddenSize)
  normalizeRows(vector, 1, tinyHiddenSize)
  return vector
}

function tune(output: string, more: readonly string[]): Promise<{ code: unknown; text: string }> {
  const env = {
    PATH: process.env['PATH']!,
    HOME: root,
    LD_LIBRARY_PATH: join(root, 'libraries'),
    FAKE_NVINFER: 'describe=1',
    FAKE_NVINFER_DIMENSIONS: String(tinyHiddenSize),
    FAKE_NVINFER_BUILDS: join(root, 'builds'),
  }
  const where = ['--model', model, '--cache-dir', join(root, 'cache'), '--offline', '--output', output]
  const how = ['--engines', 'tensorrt', '--clients', '1', '--round-ms', '10', '--rounds', '6']
  return new Promise((resolve) => {
    execFile(process.execPath, [mainFile, 'tune', ...where, ...how, ...more], { env }, (error, out, err) =>
      resolve({ code: error?.code ?? 0, text: out + err }),
    )
  })
}

describe.skipIf(!canCompile || process.platform !== 'linux')('tune --engines tensorrt', () => {
  beforeAll(() => writeNvidiaLibraries(join(root, 'libraries')))

  it('builds a plan for each candidate that needs one, says why others do not start, and goes on', async () => {
    const output = join(root, 'tuned')
    const stages = ['--stages', 'builder,memory,threads']
    const { code, text } = await tune(output, [...stages, '--minutes', '2'])
    expect(text).toContain('baseline     engine tensorrt, precision bf16, cudaGraphs 0')
    expect(text).toContain('skipped      stage threads: the engine tensorrt has no threads')
    expect([0, 1]).toContain(code)
    const entries = await readJournal(join(output, 'journal.jsonl'))
    const tried = entries.filter((entry): entry is ExperimentEntry => entry.kind === 'experiment')
    expect(new Set(tried.map(({ stage }) => stage))).toEqual(new Set(['builder', 'memory', 'defaults']))
    expect(tried.find(({ change }) => change.builderOptimizationLevel === 5)!.result.info).toMatchObject({
      engine: 'tensorrt',
      device: 'Fake 0',
    })
    // The baseline's plan, and one for each other setting of the builder that could start.
    const builds = (await readFile(join(root, 'builds'), 'utf8')).split('\n').length - 1
    expect(builds).toBeGreaterThan(2)
    expect(readTunedFile(join(output, 'tuned.json')).key.gpu).toBe('Fake 0, driver 580.65.06')
    expect(text).toContain('the best possible was not measured: libcublasLt was not found')
    const report = await readFile(join(output, 'report.md'), 'utf8')
    // onnx is not the model whose vectors the fake gives.
    expect(report).toMatch(/\| not measured: it does not start: no engine could start/)
    expect(report).toMatch(/\| nvidia driver \| 580.65.06, up to CUDA \d/)
    expect(report).toMatch(/Where the winner's time goes: not measured: .*CUPTI/)
    expect(report).toContain('| builder level and profiles |')
    expect(report).not.toMatch(/undefined|NaN/)
  }, 120_000)
})
