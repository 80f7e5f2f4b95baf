/** A process that runs one configuration: started by side-process.ts, ends with it. */
import { loadConfig } from '../../config/load.ts'
import type { Config } from '../../config/schema.ts'
import { toReason } from '../../errors.ts'
import type { EmbeddingPipeline } from '../../serving/pipeline/embedding-pipeline.ts'
import { startPipeline } from '../../serving/pipeline/start-pipeline.ts'
import { createInProcessTarget } from '../measure/in-process-target.ts'
import { createPlainLoop } from '../measure/plain-loop.ts'
import type { LoadTarget } from '../measure/target.ts'
import {
  type CountTokens,
  createTokenCounter,
  makeMixedWorkload,
  makeTextsWorkload,
} from '../measure/workload.ts'
import { judgePipeline } from '../quality/assess-pipeline.ts'
import { makeQualityTexts } from '../quality/quality-texts.ts'
import { type SideLoad, startSideLoad } from './side-load.ts'
import type { SideInfo, SideQuality } from './side.ts'
import type { SideAnswer, SideRequest, SideSetup } from './side-protocol.ts'
import { profileWinner } from './winner-profile.ts'

interface Running extends AsyncDisposable {
  readonly info: SideInfo
  readonly load: SideLoad
  assess(): Promise<SideQuality>
}
let running: Running | undefined

process.on('message', (request: SideRequest) => {
  if (request.kind === 'stop') process.disconnect()
  else void answer(request).then((reply) => process.send!(reply))
})
// The tuner is gone, or wants no more.
process.on('disconnect', () => void running?.[Symbol.asyncDispose]())

async function answer(request: Exclude<SideRequest, { kind: 'stop' }>): Promise<SideAnswer> {
  try {
    if (request.kind === 'start') {
      const { setup } = request
      running = await (setup.plainLoop === true ? startPlainLoop(setup) : startService(setup))
      return { kind: 'started', info: running.info }
    }
    if (request.kind === 'profile') {
      const { values, ...setup } = request.setup
      return { kind: 'profiled', profile: await profileWinner(loadConfig({ flags: values }), setup) }
    }
    if (request.kind === 'measure')
      return { kind: 'measured', slice: await running!.load.measure(request.all) }
    return { kind: 'assessed', quality: await running!.assess() }
  } catch (error) {
    return { kind: 'failed', reason: toReason(error) }
  }
}

async function startService(setup: SideSetup): Promise<Running> {
  const config = loadConfig({ flags: setup.values })
  const { cacheDir, cudaSearch } = setup
  const { pipeline } = await startPipeline(config, { cacheDir, cudaSearch })
  try {
    const countTokens = createTokenCounter(pipeline.tokenizer, pipeline.spec.maxTokens)
    return {
      info: describe(pipeline),
      load: await startLoad(setup, createInProcessTarget('side', pipeline), countTokens),
      assess: () => assess(setup, config, pipeline),
      [Symbol.asyncDispose]: () => pipeline[Symbol.asyncDispose](),
    }
  } catch (error) {
    await pipeline[Symbol.asyncDispose]()
    throw error
  }
}

async function startPlainLoop(setup: SideSetup): Promise<Running> {
  const {
    model,
    offline,
    revision,
    hfToken: token,
    hfEndpoint: endpoint,
    threads,
  } = loadConfig({ flags: setup.values })
  const loop = await createPlainLoop(model, {
    cacheDir: setup.cacheDir,
    offline,
    revision,
    token,
    endpoint,
    threads,
  })
  return {
    info: {
      engine: 'onnxruntime-node',
      precision: 'fp32',
      device: 'cpu',
      runtimeVersion: loop.runtimeVersion,
      memoryBytes: 0,
      modelHash: loop.spec.contentHash,
    },
    load: await startLoad(setup, loop.target, loop.countTokens),
    assess: () => Promise.reject(new Error('a plain loop is timed, not judged')),
    [Symbol.asyncDispose]: () => loop[Symbol.asyncDispose](),
  }
}

async function startLoad(setup: SideSetup, target: LoadTarget, countTokens: CountTokens): Promise<SideLoad> {
  const { texts, clients, moreClients, roundMs } = setup
  const workload =
    texts === undefined
      ? await makeMixedWorkload({ countTokens })
      : await makeTextsWorkload('own texts', texts, { countTokens })
  return startSideLoad({ target, workload, clients, moreClients, roundMs })
}

function describe({ engine, spec }: EmbeddingPipeline): SideInfo {
  const { name, precision, device, runtimeVersion, memoryBytes } = engine.info
  return { engine: name, precision, device, runtimeVersion, memoryBytes, modelHash: spec.contentHash }
}

async function assess(setup: SideSetup, config: Config, pipeline: EmbeddingPipeline): Promise<SideQuality> {
  const texts = makeQualityTexts(setup.qualityTexts)
  const { cacheDir } = setup
  const { report, checks, passed } = await judgePipeline({ pipeline, config, texts, cacheDir })
  return { passed, worstCosine: report.worstCosine, checks }
}
