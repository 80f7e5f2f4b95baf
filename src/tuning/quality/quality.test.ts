import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toVector } from '../../../test/fakes/text-embedder.ts'
import { EmbedError } from '../../errors.ts'
import { type QualityReport, assessQuality, listQualityTexts } from './assess-quality.ts'
import { defaultQualityLimits, formatQuality, judgeQuality } from './judge-quality.ts'
import { makeQualityTexts } from './quality-texts.ts'
import { recallOverlap } from './recall.ts'
import { type EmbedTexts, loadReferenceVectors } from './reference-vectors.ts'

const dimensions = 64
const texts = makeQualityTexts(40)
const all = listQualityTexts(texts)

/** The unit vector that only this text has. */
function toUnit(text: string): Float32Array {
  const vector = toVector(text, dimensions)
  const length = Math.hypot(...vector)
  return vector.map((value) => value / length)
}

/** A unit vector at exactly this cosine to `vector`. */
function turn(vector: Float32Array, cosine: number): Float32Array {
  const other = toUnit(`other ${vector[0]}`)
  const dot = vector.reduce((sum, value, i) => sum + value * other[i]!, 0)
  const normal = other.map((value, i) => value - dot * vector[i]!)
  const length = Math.hypot(...normal)
  return vector.map((value, i) => cosine * value + Math.sqrt(1 - cosine * cosine) * (normal[i]! / length))
}

const exact: EmbedTexts = (list) => Promise.resolve(list.map((text) => toUnit(text)))

function toDirection(angle: number): Float32Array {
  return Float32Array.of(Math.cos(angle), Math.sin(angle))
}

const failing: EmbedTexts = () =>
  Promise.reject(new EmbedError('ENGINE_FAILED', { engine: 'e', reason: 'r' }))

function assess(embed: EmbedTexts): Promise<QualityReport> {
  return assessQuality({
    texts,
    reference: all.map((text) => toUnit(text)),
    embed,
    countTokens: (list) => Promise.resolve(list.map((text) => text.length)),
  })
}

function failures(report: QualityReport): string[] {
  return judgeQuality(report)
    .filter(({ passed }) => !passed)
    .map(({ name }) => name)
}

describe('quality', () => {
  it('an engine that equals the reference passes everything', async () => {
    const report = await assess(exact)
    expect(failures(report)).toEqual([])
    expect(report.worstCosine).toBeCloseTo(1, 6)
    expect(report).toMatchObject({ texts: all.length, recallAt10: 1, nonFiniteTexts: [] })
    expect(report.byLength.reduce((sum, group) => sum + group.texts, 0)).toBe(all.length)
    expect(report.byLength.length).toBeGreaterThan(5)
  })

  it('one text at 0.985 is found, named, and enough to fail', async () => {
    const bad = texts.graded[9]!
    const report = await assess(async (list) =>
      (await exact(list)).map((vector, i) => (list[i] === bad ? turn(vector, 0.985) : vector)),
    )
    expect(report.worstCosine).toBeCloseTo(0.985, 5)
    expect(bad.startsWith(report.worstText.replace('...', ''))).toBe(true)
    expect(report.meanCosine).toBeGreaterThan(0.999)
    expect(failures(report)).toEqual(['worst cosine'])
    expect(formatQuality(report, judgeQuality(report))).toContain('FAIL  worst cosine')
    const worstGroups = report.byLength.filter(({ worstCosine }) => worstCosine < 0.99)
    expect(worstGroups).toHaveLength(1)
    expect(worstGroups[0]!.maxTokens).toBeGreaterThanOrEqual(bad.length)
  })

  it('a vector of zeros is the worst there is', async () => {
    const report = await assess(async (list) =>
      (await exact(list)).map((vector, i) => (list[i] === '.' ? new Float32Array(dimensions) : vector)),
    )
    expect(report.worstCosine).toBeNaN()
    expect(report.worstText).toBe('.')
    expect(failures(report)).toEqual(['worst cosine', '|norm - 1|', 'alone and in a batch, worst cosine'])
  })

  it('NaN is counted, whether given or refused; other failures are not swallowed', async () => {
    const refusing: EmbedTexts = async (list) => {
      const details = { index: 0, engine: 'e', precision: 'bf16' }
      if (list.includes('NaN null undefined Infinity -Infinity'))
        throw new EmbedError('NON_FINITE_OUTPUT', details)
      return (await exact(list)).map((vector, i) => (list[i] === '0' ? vector.map(() => Number.NaN) : vector))
    }
    const report = await assess(refusing)
    expect(report.nonFiniteTexts).toEqual(['0', 'NaN null undefined Infinity -Infinity'])
    expect(failures(report)).toEqual(['texts with NaN or infinity'])
    await expect(assess(failing)).rejects.toMatchObject({ code: 'ENGINE_FAILED' })
  })

  it('vectors that are too long, or change in company, are found', async () => {
    const long = await assess(async (list) =>
      (await exact(list)).map((vector) => vector.map((value) => value * 1.02)),
    )
    expect(failures(long)).toEqual(['|norm - 1|'])
    expect(long.normError).toBeCloseTo(0.02, 4)
    const moody = await assess(async (list) =>
      (await exact(list)).map((vector) => (list.length > 1 ? turn(vector, 0.998) : vector)),
    )
    expect(failures(moody)).toEqual(['alone and in a batch, worst cosine'])
    expect(moody.batchCosine).toBeCloseTo(0.998, 4)
  })

  it('neighbours that differ are found where the cosine is still fine', async () => {
    const report = await assess(async (list) => (await exact(list)).map((vector) => turn(vector, 0.991)))
    expect(failures(report)).toEqual(['recall@10 overlap'])
  })

  it('limits decide', async () => {
    const report = await assess(async (list) => (await exact(list)).map((vector) => turn(vector, 0.995)))
    const strict = { ...defaultQualityLimits, minCosine: 0.999, minRecallAt10: 0 }
    expect(judgeQuality(report, strict)[0]).toMatchObject({ passed: false, limit: 0.999 })
    expect(judgeQuality({ ...report, recallAt10: Number.NaN }, strict)[1]!.passed).toBe(false)
  })
})

describe('recall', () => {
  it('is the share of neighbours that both find', () => {
    const corpus = [0, 1, 2, 3].map(toDirection)
    const reference = { queries: [toDirection(0.1), toDirection(2.9)], corpus }
    expect(recallOverlap(reference, reference, 2)).toBe(1)
    expect(recallOverlap({ queries: [toDirection(0.1), toDirection(1.1)], corpus }, reference, 2)).toBe(
      (1 + 0.5) / 2,
    )
  })
})

describe('reference vectors', () => {
  let cacheDir: string
  beforeAll(async () => {
    cacheDir = await mkdtemp(join(tmpdir(), 'quality-'))
  })
  afterAll(() => rm(cacheDir, { recursive: true }))

  it('are computed one text at a time, once for each model, maker and set of texts', async () => {
    const calls: (readonly string[])[] = []
    const embed: EmbedTexts = (list) => {
      calls.push(list)
      return exact(list)
    }
    const options = { cacheDir, modelHash: 'a', dimensions, madeBy: 'onnx fp32', embed }
    const first = await loadReferenceVectors(['x', 'y'], options)
    expect(calls).toEqual([['x'], ['y']])
    expect(await loadReferenceVectors(['x', 'y'], options)).toEqual(first)
    expect(calls).toHaveLength(2)
    await loadReferenceVectors(['x', 'z'], options)
    await loadReferenceVectors(['x', 'y'], { ...options, modelHash: 'b' })
    await loadReferenceVectors(['x', 'y'], { ...options, madeBy: 'tensorrt bf16' })
    expect(calls).toHaveLength(8)
  })

  it('a file that was cut is computed anew; a cache that cannot be written is done without', async () => {
    const own = join(cacheDir, 'own')
    const options = { cacheDir: own, modelHash: 'a', dimensions, madeBy: 'm', embed: exact }
    const vectors = await loadReferenceVectors(['x'], options)
    const [file] = await readdir(join(own, 'quality'))
    await writeFile(join(own, 'quality', file!), 'cut')
    expect(await loadReferenceVectors(['x'], options)).toEqual(vectors)
    await writeFile(join(cacheDir, 'file'), '')
    expect(await loadReferenceVectors(['x'], { ...options, cacheDir: join(cacheDir, 'file') })).toEqual(
      vectors,
    )
  })
})
