import { describe, expect, it } from 'vitest'
import { createArithmeticPipeline } from '../../../test/fakes/arithmetic-pipeline.ts'
import { stageShare, summariseHost } from './host-profile.ts'
import { HostRecorder } from './host-recorder.ts'
import type { HostSpan } from './records.ts'

const embed = (served: ReturnType<typeof createArithmeticPipeline>, inputs: readonly string[]) =>
  served.pipeline.embed({ inputs, truncation: 'right' })

describe('a recording of the host', () => {
  it('holds the spans of its own pipeline, in order and inside each other', async () => {
    const served = createArithmeticPipeline({ durationMs: 4 })
    const other = createArithmeticPipeline()
    await using owned = served.pipeline
    await using stranger = other.pipeline
    await embed(served, ['before'])
    const recorder = new HostRecorder(({ source }) => source === owned)
    await Promise.all([
      embed(served, ['abcd', 'abcdefgh']),
      stranger.embed({ inputs: ['x'], truncation: 'right' }),
    ])
    const recording = recorder.stop()
    await embed(served, ['after'])

    const { spans, startedMs, endedMs } = recording
    expect(recording).toMatchObject({ texts: 2, tokens: 12, paddedTokens: 16, batches: 1, failedRequests: 0 })
    const by = (track: string) => spans.filter((each) => each.track === track)
    expect(spans).toHaveLength(4)
    const [request, tokenize, queue, batch] = ['requests', 'tokenize', 'queue', 'batches'].map(
      (track) => by(track)[0]!,
    )
    expect(request!.startedMs).toBeGreaterThanOrEqual(startedMs)
    expect(request!.startedMs + request!.durationMs).toBeLessThanOrEqual(endedMs)
    expect(tokenize!.startedMs).toBe(request!.startedMs)
    expect(queue!.startedMs).toBeCloseTo(tokenize!.startedMs + tokenize!.durationMs, 3)
    expect(batch).toMatchObject({ name: '2 x 8', details: { sequences: 2, tokens: 12 } })
    expect(batch!.durationMs).toBeGreaterThanOrEqual(3)
  })

  it('counts what failed, and what had no room', async () => {
    const { pipeline } = createArithmeticPipeline()
    await using owned = pipeline
    const recorder = new HostRecorder(() => true, 5)
    await expect(owned.embed({ inputs: [], truncation: 'right' })).rejects.toMatchObject({
      code: 'EMPTY_INPUT',
    })
    await owned.embed({ inputs: ['a'], truncation: 'right' })
    await owned.embed({ inputs: ['b'], truncation: 'right' })
    const recording = recorder.stop()
    expect(recording).toMatchObject({ failedRequests: 1, texts: 2, batches: 2, droppedSpans: 4 })
    expect(recording.spans).toHaveLength(5)
  })

  it('tells an event loop that works from one that waits', async () => {
    const idle = new HostRecorder(() => true)
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(idle.stop().eventLoopUtilisation).toBeLessThan(0.5)
    const busy = new HostRecorder(() => true)
    await new Promise((resolve) => setImmediate(resolve))
    // On a machine that does much else 60 ms may hold 2 ms of CPU time.
    for (const before = process.cpuUsage(); process.cpuUsage(before).user < 30_000;);
    const { eventLoopUtilisation, cpuMs } = busy.stop()
    expect(eventLoopUtilisation).toBeGreaterThan(0.5)
    expect(cpuMs).toBeGreaterThan(10)
  })
})

describe('its profile', () => {
  it('has a row a stage in percent of the requests, rates, padding and the time some batch ran', () => {
    const profile = summariseHost({
      startedMs: 1000,
      endedMs: 1100,
      spans: [
        span('requests', 1000, 40),
        span('requests', 1050, 60),
        span('tokenize', 1000, 10),
        span('queue', 1010, 25),
        // Two at once, one of which ends after the recording.
        span('batches', 1010, 30),
        span('batches', 1020, 30),
        span('batches', 1090, 50),
      ],
      droppedSpans: 0,
      texts: 20,
      tokens: 300,
      paddedTokens: 400,
      batches: 3,
      failedRequests: 0,
      eventLoopUtilisation: 0.25,
      cpuMs: 150,
    })
    expect(profile).toMatchObject({
      requests: 2,
      textsPerSecond: 200,
      tokensPerSecond: 3000,
      tokensPerBatch: 100,
      paddingRatio: 0.25,
      busyCores: 1.5,
      engineBusy: { busyRatio: 0.5, busyNs: 50e6 },
    })
    expect(profile.stages.map(({ timePercent, instances }) => [timePercent, instances])).toEqual([
      [100, 2],
      [10, 1],
      [25, 1],
      [110, 3],
    ])
    expect(stageShare(profile, 'queue')).toBe(0.25)
  })

  it('of nothing is empty', () => {
    const recorder = new HostRecorder(() => true)
    const profile = summariseHost(recorder.stop())
    expect(profile).toMatchObject({ requests: 0, tokensPerBatch: 0, paddingRatio: 0, stages: [] })
    expect(stageShare(profile, 'tokenize')).toBe(0)
  })
})

function span(
  track: 'requests' | 'tokenize' | 'queue' | 'batches',
  startedMs: number,
  durationMs: number,
): HostSpan {
  return { track, name: track, startedMs, durationMs }
}
