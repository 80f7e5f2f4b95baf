import type { EmbeddingPipeline } from '../../serving/pipeline/embedding-pipeline.ts'
import { type BatchDone, batchDone } from '../../telemetry/channels.ts'
import type { LoadTarget } from './target.ts'

/** A pipeline of this process: no HTTP, no JSON. CPU and memory are those of the whole process. The caller keeps the
 * pipeline and disposes it. */
export function createInProcessTarget(name: string, pipeline: EmbeddingPipeline): LoadTarget {
  let batches = 0
  let inputs = 0
  let paddingRatioSum = 0
  const count = (batch: BatchDone): void => {
    if (batch.source !== pipeline) return
    batches++
    inputs += batch.sequences
    paddingRatioSum += 1 - batch.tokens / batch.paddedTokens
  }
  batchDone.subscribe(count)
  return {
    name,
    async send({ texts }) {
      await pipeline.embed({ inputs: texts, truncation: 'right' })
    },
    readCounters() {
      const { user, system } = process.cpuUsage()
      const cpuSeconds = (user + system) / 1e6
      return Promise.resolve({
        batches,
        inputs,
        paddingRatioSum,
        cpuSeconds,
        rssBytes: process.memoryUsage.rss(),
      })
    },
    [Symbol.asyncDispose]() {
      batchDone.unsubscribe(count)
      return Promise.resolve()
    },
  }
}
