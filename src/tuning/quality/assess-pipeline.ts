/** The quality of a pipeline that runs, beside the same model at full precision. */
import type { Config } from '../../config/schema.ts'
import type { EmbeddingPipeline } from '../../serving/pipeline/embedding-pipeline.ts'
import { startPipeline } from '../../serving/pipeline/start-pipeline.ts'
import { type QualityReport, assessQuality, listQualityTexts } from './assess-quality.ts'
import { type QualityCheck, defaultQualityLimits, judgeQuality } from './judge-quality.ts'
import type { QualityTexts } from './quality-texts.ts'
import { type EmbedTexts, loadReferenceVectors } from './reference-vectors.ts'

/** Who makes the reference. */
export const referenceName = 'onnx fp32'

export interface AssessPipelineOptions {
  readonly pipeline: EmbeddingPipeline
  /** What the pipeline was started from. */
  readonly config: Config
  readonly texts: QualityTexts
  readonly cacheDir: string
  readonly signal?: AbortSignal | undefined
  readonly onText?: (what: 'reference' | 'text', done: number, of: number) => void
}

/** Starts onnx at fp32 where the cache has no reference for this model and these texts.
 * @throws {EmbedError} as startPipeline and EmbeddingPipeline.embed */
export async function assessPipeline(options: AssessPipelineOptions): Promise<QualityReport> {
  const { pipeline, config, texts, cacheDir, signal, onText } = options
  const { spec, tokenizer } = pipeline
  let reference: EmbeddingPipeline | undefined
  try {
    const vectors = await loadReferenceVectors(listQualityTexts(texts), {
      cacheDir,
      modelHash: spec.contentHash,
      dimensions: spec.dimensions,
      // What an engine cuts, the reference cuts at the same place.
      madeBy: `${referenceName}, ${spec.maxTokens} tokens`,
      embed: async (list) => {
        const fp32 = { ...config, engine: 'onnx', precision: 'fp32' } as const
        reference ??= (await startPipeline(fp32, { cacheDir, signal, maxTokens: spec.maxTokens })).pipeline
        return toEmbed(reference, signal)(list)
      },
      onText: (done, of) => onText?.('reference', done, of),
    })
    return await assessQuality({
      texts,
      reference: vectors,
      embed: toEmbed(pipeline, signal),
      countTokens: async (list) => {
        const encoded = await tokenizer.encode(list, { maxTokens: spec.maxTokens, truncation: 'right' })
        return encoded.map(({ ids }) => ids.length)
      },
      onText: (done, of) => onText?.('text', done, of),
    })
  } finally {
    await reference?.[Symbol.asyncDispose]()
  }
}

/** assessPipeline, judged by the default limits and the configuration's minCosine. @throws {EmbedError} as assessPipeline */
export async function judgePipeline(options: AssessPipelineOptions): Promise<{
  readonly report: QualityReport
  readonly checks: readonly QualityCheck[]
  readonly passed: boolean
}> {
  const report = await assessPipeline(options)
  const checks = judgeQuality(report, { ...defaultQualityLimits, minCosine: options.config.minCosine })
  return { report, checks, passed: checks.every((check) => check.passed) }
}

function toEmbed(pipeline: EmbeddingPipeline, signal: AbortSignal | undefined): EmbedTexts {
  return async (texts) => (await pipeline.embed({ inputs: texts, truncation: 'right', signal })).vectors
}
