import type { QualityReport } from './assess-quality.ts'

export interface QualityLimits {
  readonly minCosine: number
  readonly minRecallAt10: number
  readonly maxNormError: number
  readonly minBatchCosine: number
}

export const defaultQualityLimits: QualityLimits = {
  minCosine: 0.99,
  minRecallAt10: 0.95,
  maxNormError: 0.01,
  // A batch has other shapes than a text alone, so bf16 rounds elsewhere.
  minBatchCosine: 0.999,
}

export interface QualityCheck {
  readonly name: string
  readonly value: number
  readonly limit: number
  readonly isAtLeast: boolean
  readonly passed: boolean
}

/** Each criterion with its value and limit; NaN passes none. */
export function judgeQuality(
  report: QualityReport,
  limits: QualityLimits = defaultQualityLimits,
): QualityCheck[] {
  return [
    atLeast('worst cosine', report.worstCosine, limits.minCosine),
    atLeast('recall@10 overlap', report.recallAt10, limits.minRecallAt10),
    atMost('|norm - 1|', report.normError, limits.maxNormError),
    atMost('texts with NaN or infinity', report.nonFiniteTexts.length, 0),
    atLeast('alone and in a batch, worst cosine', report.batchCosine, limits.minBatchCosine),
  ]
}

function atLeast(name: string, value: number, limit: number): QualityCheck {
  return { name, value, limit, isAtLeast: true, passed: value >= limit }
}

function atMost(name: string, value: number, limit: number): QualityCheck {
  return { name, value, limit, isAtLeast: false, passed: value <= limit }
}

export function formatQuality(report: QualityReport, checks: readonly QualityCheck[]): string {
  const lengths = report.byLength.map(
    ({ maxTokens, texts, worstCosine, meanCosine }) =>
      `  up to ${String(maxTokens).padStart(5)} tokens  ${String(texts).padStart(4)} texts  worst ${worstCosine.toFixed(6)}  mean ${meanCosine.toFixed(6)}`,
  )
  const rows = checks.map(
    ({ name, value, limit, isAtLeast, passed }) =>
      `  ${passed ? 'pass' : 'FAIL'}  ${name.padEnd(36)} ${toText(value).padStart(9)}  ${isAtLeast ? '>=' : '<='} ${limit}`,
  )
  return [
    `${report.texts} texts, mean cosine ${report.meanCosine.toFixed(6)}`,
    ...lengths,
    '',
    ...rows,
    ...(checks[0]!.passed ? [] : [`  the worst text: ${JSON.stringify(report.worstText)}`]),
    ...report.nonFiniteTexts.map((text) => `  not finite: ${JSON.stringify(text)}`),
  ].join('\n')
}

function toText(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(6)
}
