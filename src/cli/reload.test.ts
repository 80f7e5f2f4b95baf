import { describe, expect, it } from 'vitest'
import type { ArithmeticEngine } from '../../test/fakes/arithmetic-engine.ts'
import { createArithmeticPipeline } from '../../test/fakes/arithmetic-pipeline.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { PipelineHost, type ServedPipeline } from '../serving/pipeline/pipeline-host.ts'
import { createReloader } from './reload.ts'

interface Setup extends AsyncDisposable {
  readonly host: PipelineHost
  readonly reload: () => Promise<void>
  readonly logged: string[]
  /** Configurations that the server's keys and certificate were reloaded with. */
  readonly serverReloads: Config[]
  readonly stop: AbortController
}

function setup(parts: {
  loadConfig?: () => Config
  start?: (config: Config) => Promise<ServedPipeline>
  hasSameModel?: () => Promise<boolean>
}): Setup {
  const host = new PipelineHost(createArithmeticPipeline())
  const logged: string[] = []
  const serverReloads: Config[] = []
  const log = (_values: object, message: string): void => void logged.push(message)
  const stop = new AbortController()
  const server = {
    app: { log: { warn: log, error: log } },
    reload: (config: Config) => Promise.resolve(void serverReloads.push(config)),
  }
  const reload = createReloader({
    host,
    server: server as never,
    loadConfig: parts.loadConfig ?? loadConfig,
    start: parts.start ?? ((config) => Promise.resolve({ ...createArithmeticPipeline(), config })),
    hasSameModel: parts.hasSameModel ?? (() => Promise.resolve(true)),
    onReloaded: ({ config }, change) => logged.push(`reloaded ${change} ${config.model}`),
    signal: stop.signal,
  })
  return {
    host,
    reload,
    logged,
    serverReloads,
    stop,
    [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
  }
}

describe('createReloader', () => {
  it('takes over configuration, keys and model, and names what it cannot change', async () => {
    const next = loadConfig({ flags: { model: 'next', apiKey: 'k', port: 9, logLevel: 'silent' } })
    await using made = setup({ loadConfig: () => next })
    const before = made.host.current
    await made.reload()
    expect(made.logged).toEqual(['a reload cannot change port; restart for that', 'reloaded model next'])
    expect(made.serverReloads).toMatchObject([{ apiKey: 'k', port: before.config.port }])
    expect([made.host.current === before, made.host.current.config.model]).toEqual([false, 'next'])
  })

  it('keeps what it has of the part that fails', async () => {
    await using unread = setup({
      loadConfig: () => {
        throw new Error('no such file')
      },
    })
    await unread.reload()
    expect([unread.logged, unread.serverReloads]).toEqual([['nothing was reloaded: no such file'], []])

    await using unstarted = setup({ start: () => Promise.reject(new Error('no such model')) })
    const before = unstarted.host.current
    await unstarted.reload()
    expect(unstarted.logged.at(-1)).toBe('the model was not reloaded, the one before goes on: no such model')
    // A key that was taken back is gone all the same.
    expect([unstarted.serverReloads.length, unstarted.host.current]).toEqual([1, before])
  })

  it('makes no new pipeline of the same configuration and the same model', async () => {
    let hasSameModel = true
    await using made = setup({
      loadConfig: () =>
        loadConfig({ flags: { model: 'arithmetic', port: 0, logLevel: 'silent', apiKey: 'new' } }),
      hasSameModel: () => Promise.resolve(hasSameModel),
    })
    const { pipeline } = made.host.current
    await made.reload()
    expect([made.logged, made.host.current.pipeline === pipeline, made.host.current.config.apiKey]).toEqual([
      ['reloaded configuration arithmetic'],
      true,
      'new',
    ])
    hasSameModel = false
    await made.reload()
    expect([made.logged.at(-1), made.host.current.pipeline === pipeline]).toEqual([
      'reloaded model arithmetic',
      false,
    ])
  })

  it('replaces a pipeline whose engine is dead', async () => {
    await using made = setup({ loadConfig: () => made.host.current.config })
    const { pipeline } = made.host.current
    ;(pipeline.engine as ArithmeticEngine).isHealthy = false
    await made.reload()
    expect(made.host.current.pipeline === pipeline).toBe(false)
  })

  it('lets all that ask during a reload share the next one', async () => {
    let started = 0
    let finish!: () => void
    await using made = setup({
      hasSameModel: () => Promise.resolve(false),
      start: async (config) => {
        started++
        await new Promise<void>((resolve) => (finish = resolve))
        return { ...createArithmeticPipeline(), config }
      },
    })
    const asked = [made.reload()]
    await expect.poll(() => started).toBe(1)
    asked.push(made.reload(), made.reload(), made.reload())
    finish()
    await expect.poll(() => started).toBe(2)
    finish()
    await Promise.all(asked)
    expect(started).toBe(2)
  })

  it('says nothing of a reload that a stop overtakes', async () => {
    await using made = setup({ start: () => Promise.reject(new Error('aborted')) })
    const before = made.logged.length
    const asked = made.reload()
    made.stop.abort()
    await asked
    await made.reload()
    expect([
      made.logged.slice(before).filter((line) => line.includes('not reloaded')),
      made.serverReloads.length,
    ]).toEqual([[], 1])
  })
})
