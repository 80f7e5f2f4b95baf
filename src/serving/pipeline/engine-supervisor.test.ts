import { describe, expect, it } from 'vitest'
import { pack } from '../../../test/engine-contract.ts'
import { ArithmeticEngine } from '../../../test/fakes/arithmetic-engine.ts'
import { codeOf } from '../../../test/fakes/batching-harness.ts'
import { VirtualClock } from '../../../test/fakes/virtual-clock.ts'
import type { Engine } from '../../engines/engine.ts'
import { EmbedError } from '../../errors.ts'
import { type EngineState, engineState } from '../../telemetry/channels.ts'
import { SupervisedEngine } from './engine-supervisor.ts'

const poison = pack([[ArithmeticEngine.poisonId]])

function setUp(failedStarts = 0) {
  const clock = new VirtualClock()
  const created: ArithmeticEngine[] = []
  const startsMs: number[] = []
  const create = (): ArithmeticEngine => {
    const engine = new ArithmeticEngine(clock, () => 10)
    created.push(engine)
    return engine
  }
  let starts = 0
  const supervised = new SupervisedEngine(create(), {
    probe: pack([[1, 2]]),
    recreate: (): Promise<Engine> => {
      startsMs.push(clock.nowMs())
      return starts++ < failedStarts ? Promise.reject(new Error('no device')) : Promise.resolve(create())
    },
    clock,
  })
  return { clock, created, startsMs, supervised }
}

/** From now on every call fails, as after the loss of a device. */
function kill(engine: ArithmeticEngine): void {
  engine.embed = () => Promise.reject(new EmbedError('ENGINE_FAILED', { engine: 'x', reason: 'device lost' }))
}

describe('SupervisedEngine', () => {
  it('leaves an engine alone that fails on a batch but computes the probe', async () => {
    const { clock, created, supervised } = setUp()
    const failing = codeOf(supervised.embed(poison))
    await clock.advance(100)
    expect([await failing, created.length, supervised.isHealthy]).toEqual(['ENGINE_FAILED', 1, true])
  })

  it('replaces a dead engine, runs its batches on the new one and says so', async () => {
    const states: EngineState[] = []
    const listener = (state: EngineState): void => void states.push(state)
    engineState.subscribe(listener)
    const { clock, created, supervised } = setUp()
    kill(created[0]!)
    const calls = [supervised.embed(pack([[5, 6]])), supervised.embed(pack([[7]]))]
    await clock.advance(99)
    expect([supervised.isHealthy, created[0]!.isDisposed]).toEqual([false, true])
    await clock.advance(50)
    engineState.unsubscribe(listener)
    expect((await Promise.all(calls)).map(({ values }) => [...values])).toEqual([
      [11, 2],
      [7, 1],
    ])
    expect([created.length, supervised.isHealthy]).toEqual([2, true])
    expect(states.map(({ isHealthy }) => isHealthy)).toEqual([false, true])
    expect(states[0]!.reason).toContain('device lost')
  })

  it('tries again with growing waits until the engine starts', async () => {
    const { clock, created, startsMs, supervised } = setUp(4)
    kill(created[0]!)
    const call = supervised.embed(pack([[5]]))
    await clock.advance(10_000)
    expect((await call).rows).toBe(1)
    expect(startsMs).toEqual([100, 300, 700, 1500, 3100])
  })

  it('gives up on a batch that finds the replacement dead too', async () => {
    const { clock, created, supervised } = setUp()
    kill(created[0]!)
    const call = codeOf(supervised.embed(pack([[5]])))
    await clock.advance(99)
    // The replacement is dead from its first call.
    const { push } = created
    created.push = (engine) => {
      kill(engine)
      return push.call(created, engine)
    }
    await clock.advance(1)
    expect(await call).toBe('ENGINE_FAILED')
  })

  it('ends waiting calls and disposes the engine when it is disposed in the middle of a restart', async () => {
    const { clock, created, supervised } = setUp(1000)
    kill(created[0]!)
    const call = codeOf(supervised.embed(pack([[5]])))
    await clock.advance(1000)
    await supervised[Symbol.asyncDispose]()
    expect([await call, created[0]!.isDisposed, clock.pendingTimers]).toEqual(['ENGINE_FAILED', true, 0])
  })
})
