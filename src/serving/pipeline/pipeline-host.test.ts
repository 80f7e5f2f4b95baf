import { describe, expect, it } from 'vitest'
import { createArithmeticPipeline } from '../../../test/fakes/arithmetic-pipeline.ts'
import { PipelineHost } from './pipeline-host.ts'

const tick = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('PipelineHost', () => {
  it('hands out the new pipeline at once and disposes the old one when its last request has ended', async () => {
    const [first, second] = [createArithmeticPipeline(), createArithmeticPipeline()]
    await using host = new PipelineHost(first)
    const leave = host.enter()
    const leaveToo = host.enter()
    await host.reload(() => Promise.resolve(second))
    expect(host.current.pipeline).toBe(second.pipeline)
    await tick()
    expect(first.engine.isDisposed).toBe(false)
    const { vectors } = await first.pipeline.embed({ inputs: [[3, 4]], truncation: 'none', normalize: false })
    expect([...vectors[0]!]).toEqual([7, 2])
    leave()
    leave()
    await tick()
    expect(first.engine.isDisposed).toBe(false)
    leaveToo()
    await host.whenRetired()
    expect([first.engine.isDisposed, second.engine.isDisposed]).toEqual([true, false])
  })

  it('keeps a pipeline that an earlier request may have seen after the swap', async () => {
    const [first, second, third] = [1, 2, 3].map(() => createArithmeticPipeline())
    await using host = new PipelineHost(first!)
    const leave = host.enter()
    await host.reload(() => Promise.resolve(second!))
    await host.reload(() => Promise.resolve(third!))
    await tick()
    expect([first!.engine.isDisposed, second!.engine.isDisposed]).toEqual([false, false])
    leave()
    await host.whenRetired()
    expect([first!, second!, third!].map(({ engine }) => engine.isDisposed)).toEqual([true, true, false])
  })

  it('keeps the current pipeline when the next one does not start', async () => {
    const first = createArithmeticPipeline()
    await using host = new PipelineHost(first)
    await expect(host.reload(() => Promise.reject(new Error('no such model')))).rejects.toThrow(
      'no such model',
    )
    expect([host.current.pipeline, host.isReady, first.engine.isDisposed]).toEqual([
      first.pipeline,
      true,
      false,
    ])
  })

  it('disposes a pipeline that comes too late', async () => {
    const [first, second] = [createArithmeticPipeline(), createArithmeticPipeline()]
    const host = new PipelineHost(first)
    const reloading = host.reload(async () => {
      await tick()
      return second
    })
    await host[Symbol.asyncDispose]()
    await expect(reloading).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
    expect([first.engine.isDisposed, second.engine.isDisposed]).toEqual([true, true])
  })

  it('is ready while it accepts and its pipeline is healthy', async () => {
    const served = createArithmeticPipeline()
    await using host = new PipelineHost(served)
    expect(host.isReady).toBe(true)
    served.engine.isHealthy = false
    expect([host.isReady, host.isAccepting]).toEqual([false, true])
    served.engine.isHealthy = true
    host.stopAccepting()
    expect([host.isReady, host.isAccepting]).toEqual([false, false])
  })
})
