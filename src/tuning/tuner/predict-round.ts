/** 97.5th percentiles of Student's t; from 30 degrees of freedom on it is nearly the normal distribution's. */
const quantiles = [
  12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.1,
  2.09, 2.09,
]

/** Prediction interval of one more round from those made, on the log scale; 95 % for rounds that are log-normal.
 * @param rates at least two */
export function predictRound(rates: readonly number[]): { low: number; high: number } {
  const logs = rates.map((rate) => Math.log(rate))
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1)
  const width = (quantiles[logs.length - 2] ?? 2.05) * Math.sqrt(variance * (1 + 1 / logs.length))
  return { low: Math.exp(mean - width), high: Math.exp(mean + width) }
}
