/** POST /admin/profile: what a running server does for some seconds, under the load that it has.
 * Nodes of a CPU's graph are not in it: they are measured on an engine of their own ('akidb-embedding profile'). */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Static, Type } from 'typebox'
import type { EngineInfo } from '../../engines/engine.ts'
import { EmbedError } from '../../errors.ts'
import { ActivityRecorder } from '../../hardware/gpu/activity-recorder.ts'
import type { CudaLibrary } from '../../hardware/machine/cuda-libraries.ts'
import type { PipelineHost } from '../../serving/pipeline/pipeline-host.ts'
import type { ServerPlugin } from '../../serving/server/create-server.ts'
import { type Assessment, assessProfile } from './assess-profile.ts'
import type { GpuProfile } from './gpu-profile.ts'
import { type HostProfile, summariseHost } from './host-profile.ts'
import { isOnGpu } from './profile-engine.ts'
import { recordWork, summariseRecorded } from './record-work.ts'
import { toTraceEvents, type TraceEvent } from './trace.ts'

export interface ServerProfile extends Assessment {
  readonly engine: Pick<EngineInfo, 'name' | 'runtimeVersion' | 'precision' | 'device'>
  readonly model: string
  readonly host: HostProfile
  /** Of a GPU's engine. */
  readonly gpu?: GpuProfile
}

/** The answer; `trace` as ui.perfetto.dev reads it from a file of its own, when it was asked for. */
export interface ServerProfileAnswer {
  readonly profile: ServerProfile
  readonly trace?: { readonly displayTimeUnit: 'ms'; readonly traceEvents: readonly TraceEvent[] }
}

export interface ProfilePluginOptions {
  readonly host: PipelineHost
  /** CUPTI, and where it was searched; asked for at the first profile of an engine on a GPU. */
  readonly findCupti: () => Promise<CudaLibrary>
  /** The server stops: a profile under way answers with what it has. */
  readonly signal: AbortSignal
}

const bodySchema = Type.Object({
  seconds: Type.Number({ minimum: 0.1, maximum: 60, 'x-expects': 'a number of seconds from 0.1 to 60' }),
  trace: Type.Optional(Type.Boolean({ 'x-expects': 'true or false' })),
  api_calls: Type.Optional(Type.Boolean({ 'x-expects': 'true or false' })),
})

/** From this machine and with a key alone; one profile at a time. */
export function createProfilePlugin(options: ProfilePluginOptions): ServerPlugin {
  const { host, signal } = options
  let isRecording = false
  /** CUPTI takes one in a process, which stays. */
  let recorder: ActivityRecorder | undefined

  const findRecorder = async (): Promise<ActivityRecorder> => {
    if (recorder !== undefined) return recorder
    const { title: library, found, searched, fix } = await options.findCupti()
    if (found === undefined) throw new EmbedError('LIBRARY_NOT_FOUND', { library, searched, fix })
    return (recorder = new ActivityRecorder({ cuptiPath: found.path }))
  }

  const record = async (
    { seconds, trace = false, api_calls: apiCalls }: Static<typeof bodySchema>,
    stop: AbortSignal,
  ): Promise<ServerProfileAnswer> => {
    const { pipeline } = host.current
    const { name, runtimeVersion, precision, device } = pipeline.engine.info
    const { recording, activity } = await recordWork({
      // A reload may bring another pipeline meanwhile.
      isOurs: ({ source }) => source === pipeline || source === host.current.pipeline,
      recorder: isOnGpu({ name }) ? await findRecorder() : undefined,
      apiCalls,
      run: () => sleep(seconds * 1000, undefined, { signal: stop }).catch(() => undefined),
    })
    const measured = summariseHost(recording)
    const gpu = activity === undefined ? undefined : summariseRecorded(activity, recording)
    const traceEvents = trace ? [...toTraceEvents({ gpu: activity, spans: recording.spans })] : []
    return {
      profile: {
        engine: { name, runtimeVersion, precision, device },
        model: pipeline.spec.id,
        host: measured,
        ...(gpu === undefined ? {} : { gpu }),
        ...assessProfile({ precision, host: measured, gpu }),
      },
      ...(trace ? { trace: { displayTimeUnit: 'ms', traceEvents } } : {}),
    }
  }

  return (app) => {
    app.post<{ Body: Static<typeof bodySchema> }>(
      '/admin/profile',
      { schema: { tags: ['Metrics'], body: bodySchema }, config: { access: 'admin' } },
      async (request, reply) => {
        if (isRecording)
          throw new EmbedError('PROFILER_BUSY', { holder: 'another POST /admin/profile of this server' })
        isRecording = true
        const gone = new AbortController()
        const leave = () => gone.abort()
        reply.raw.once('close', leave)
        signal.addEventListener('abort', leave)
        if (signal.aborted) leave()
        try {
          return await record(request.body, gone.signal)
        } finally {
          isRecording = false
          signal.removeEventListener('abort', leave)
          reply.raw.removeListener('close', leave)
        }
      },
    )
  }
}
