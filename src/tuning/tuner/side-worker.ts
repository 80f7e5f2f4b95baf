/** A process that runs one configuration: started by side-process.ts, ends with it. */
import { loadConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import { toReason } from '../../errors.ts'
import type { EmbeddingPipeline } from '../../serving/pipeline/embedding-pipeline.ts'
import { startPipeline } from '../../serving/pipeline/start-pipeline.ts'
import { createInProcessTarget } from '../measure/in-process-target.ts'
import { runLoad } from '../measure/load.ts'
import type { LoadTarget } from '../measure/target.ts'
import {
  type Workload,
  makeMixedWorkload,
  makeTextsWorkload,
  createTokenCounter,
} from '../measure/workload.ts'
import { judgePipeline } from '../quality/assess-pipeline.ts'
import { makeQualityTexts } from '../quality/quality-texts.ts'
import type { SideInfo, SideQuality, Slice } from './side.ts'
import type { SideAnswer, SideRequest, SideSetup } from './side-protocol.ts'
import { profileWinner } from './winner-profile.ts'

interface Running {
  readonly setup: SideSetup
  readonly config: Config
  readonly pipeline: EmbeddingPipeline
  readonly target: LoadTarget
  readonly workload: Workload
}
let running: Running | undefined

/** Of each number of clients, before anything is measured: with 5 an equal candidate still was 2 % behind at first. */
const warmUpRounds = 10

process.on('message', (request: SideRequest) => {
  if (request.kind === 'stop') process.disconnect()
  else void answer(request).then((reply) => process.send!(reply))
})
// The tuner is gone, or wants no more.
process.on('disconnect', () => void running?.pipeline[Symbol.asyncDispose]())

async function answer(request: Exclude<SideRequest, { kind: 'stop' }>): Promise<SideAnswer> {
  try {
    if (request.kind === 'start') {
      running = await start(request.setup)
      await warmUp(running)
      return { kind: 'started', info: describe(running) }
    }
    if (request.kind === 'profile') {
      const { values, ...setup } = request.setup
      return { kind: 'profiled', profile: await profileWinner(loadConfig({ flags: values }), setup) }
    }
    if (request.kind === 'measure') return { kind: 'measured', slice: await measure(running!, request.all) }
    return { kind: 'assessed', quality: await assess(running!) }
  } catch (error) {
    return { kind: 'failed', reason: toReason(error) }
  }
}

async function start(setup: SideSetup): Promise<Running> {
  const config = loadConfig({ flags: setup.values })
  const { cacheDir, cudaSearch } = setup
  const { pipeline } = await startPipeline(config, { cacheDir, cudaSearch })
  const countTokens = createTokenCounter(pipeline.tokenizer, pipeline.spec.maxTokens)
  const { texts } = setup
  const workload =
    texts === undefined
      ? await makeMixedWorkload({ countTokens })
      : await makeTextsWorkload('own texts', texts, { countTokens })
  return { setup, config, pipeline, workload, target: createInProcessTarget('side', pipeline) }
}

/** What a process does first is slower for seconds: shapes of the engine, costs that the batcher learns, JavaScript that is not
 * optimised yet. Without this an equal candidate, which has just begun, was 5 to 8 % behind the incumbent in its first
 * 8 pairs, 4 % in the next 8 (openvino bf16, 2 cores). */
async function warmUp({ setup, target, workload }: Running): Promise<void> {
  const durationMs = warmUpRounds * setup.roundMs
  for (const clients of setup.clients)
    await runLoad(target, { workload, load: { kind: 'closed', clients }, durationMs, warmupMs: 0 })
}

function describe({ pipeline }: Running): SideInfo {
  const { name, precision, device, runtimeVersion, memoryBytes } = pipeline.engine.info
  return {
    engine: name,
    precision,
    device,
    runtimeVersion,
    memoryBytes,
    modelHash: pipeline.spec.contentHash,
  }
}

async function measure({ setup, target, workload }: Running, all: boolean): Promise<Slice> {
  const clientCounts = [...setup.clients, ...(all ? (setup.moreClients ?? []) : [])].sort((a, b) => a - b)
  const scenarios: [string, Slice['scenarios'][string]][] = []
  for (const clients of clientCounts) {
    const latenciesMs: number[] = []
    const round = await runLoad(target, {
      workload,
      load: { kind: 'closed', clients },
      durationMs: setup.roundMs,
      // The caches of the other side have to leave.
      warmupMs: setup.roundMs / 5,
      onLatency: (latencyMs) => latenciesMs.push(latencyMs),
    })
    if (round.errors > 0) throw new Error(`${round.errors} requests failed, the first: ${round.firstError}`)
    const { textsPerSecond, p50Ms, p95Ms, p99Ms } = round
    const name = `${clients} client${clients === 1 ? '' : 's'}`
    scenarios.push([name, { textsPerSecond, p50Ms, p95Ms, p99Ms, latenciesMs }])
  }
  return { scenarios: Object.fromEntries(scenarios), rssBytes: process.memoryUsage.rss() }
}

async function assess({ setup, config, pipeline }: Running): Promise<SideQuality> {
  const texts = makeQualityTexts(setup.qualityTexts)
  const { report, checks, passed } = await judgePipeline({
    pipeline,
    config,
    texts,
    cacheDir: setup.cacheDir,
  })
  return { passed, worstCosine: report.worstCosine, checks }
}
