import { expect, it } from 'vitest'
import { CompletionPoller, type PollTimer } from './completion-poller.ts'

/** A timer whose turns a test takes one by one. */
class ManualTimer implements PollTimer {
  ms = 0
  readonly pending: { kind: 'soon' | 'later'; callback: () => void }[] = []
  nowMs(): number {
    return this.ms
  }
  soon(callback: () => void): void {
    this.pending.push({ kind: 'soon', callback })
  }
  later(callback: () => void): void {
    this.pending.push({ kind: 'later', callback })
  }
  async turn(ms = 0): Promise<void> {
    this.ms += ms
    for (const { callback } of this.pending.splice(0)) callback()
    await Promise.resolve()
  }
  get kinds(): string[] {
    return this.pending.map(({ kind }) => kind)
  }
}

it('gives the event loop a turn before it answers, even for what is done', async () => {
  const timer = new ManualTimer()
  let isAnswered = false
  const waiting = new CompletionPoller(timer).wait(() => true).then(() => (isAnswered = true))
  await Promise.resolve()
  expect([isAnswered, timer.kinds]).toEqual([false, ['soon']])
  await timer.turn()
  await waiting
  expect(timer.pending).toEqual([])
})

it('polls every turn for 50 ms, then sleeps between polls, and is still when nobody waits', async () => {
  const timer = new ManualTimer()
  const poller = new CompletionPoller(timer)
  let polls = 0
  let isDone = false
  const waiting = poller.wait(() => (polls++, isDone))
  expect([polls, timer.kinds]).toEqual([0, ['soon']])
  await timer.turn(49)
  expect([polls, timer.kinds]).toEqual([1, ['soon']])
  await timer.turn(1)
  expect([polls, timer.kinds]).toEqual([2, ['later']])
  isDone = true
  await timer.turn(1)
  await waiting
  expect([polls, timer.kinds, poller.waiting]).toEqual([3, [], 0])
})

it('wakes for a new wait while it sleeps, with one loop for all', async () => {
  const timer = new ManualTimer()
  const poller = new CompletionPoller(timer)
  const done = { old: false, young: false }
  const old = poller.wait(() => done.old)
  await timer.turn(60)
  expect(timer.kinds).toEqual(['later'])
  const young = poller.wait(() => done.young)
  expect(timer.kinds).toEqual(['later', 'soon'])
  done.young = true
  await timer.turn()
  await young
  // The sleep that was overtaken does not poll a second time.
  expect(timer.kinds).toEqual(['later'])
  done.old = true
  await timer.turn()
  await old
  expect(timer.kinds).toEqual([])
})

it('hands a failure to the one who waits for it, the others wait on', async () => {
  const timer = new ManualTimer()
  const poller = new CompletionPoller(timer)
  let isDone = false
  let isBroken = false
  const good = poller.wait(() => isDone)
  const bad = poller.wait(() => {
    if (isBroken) throw new Error('illegal address')
    return false
  })
  isBroken = true
  await Promise.all([timer.turn(), expect(bad).rejects.toThrow('illegal address')])
  expect(poller.waiting).toBe(1)
  isDone = true
  await timer.turn()
  await good
})

it('lets the event loop serve others between polls', async () => {
  const poller = new CompletionPoller()
  let ticks = 0
  const interval = setInterval(() => ticks++, 2)
  // Never, if polling kept the timers from running.
  await poller.wait(() => ticks > 3)
  clearInterval(interval)
  expect(poller.waiting).toBe(0)
})
