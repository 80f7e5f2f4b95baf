import { beforeAll, describe, expect, it } from 'vitest'
import { compileFakeCupti, type FakeCupti } from '../../../test/fakes/fake-cupti.ts'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { canCompile } from '../../../test/fakes/native-library.ts'
import { loadCupti } from '../ffi/cupti.ts'
import { knownCuptiVersions } from '../ffi/cupti-records.ts'
import { ActivitySession } from './activity-session.ts'

describe.skipIf(!canCompile)('a recording', () => {
  let fake: FakeCupti
  const open = () => new ActivitySession(loadCupti(fake.path))
  beforeAll(() => {
    fake = compileFakeCupti()
  })

  it('holds kernels, copies and fills with all that CUPTI tells of them', async () => {
    const session = open()
    const beforeNs = process.hrtime.bigint()
    await session.start()
    fake.launch(1, 5000, 0)
    const activity = await session.stop()
    expect(activity.droppedRecords).toBe(0)
    expect(activity.apiCalls).toEqual([])
    expect(activity.startedAtNs).toBeGreaterThanOrEqual(beforeNs)
    expect(activity.startedAtNs).toBeLessThan(process.hrtime.bigint())
    const [kernel] = activity.kernels
    const from = kernel!.startNs - 1000
    // The launch came after the start, by both clocks, and before the end.
    expect(from).toBeGreaterThan(0)
    expect(from).toBeLessThan(activity.durationNs)
    const common = { deviceId: 1, streamId: 13, correlationId: kernel!.correlationId }
    expect(activity.kernels).toEqual([
      {
        ...common,
        name: 'cutlass::device_kernel(int)',
        startNs: from + 1000,
        endNs: from + 6000,
        grid: [132, 2, 3],
        block: [384, 1, 1],
        registersPerThread: 168,
        staticSharedBytes: 1024,
        dynamicSharedBytes: 200_000,
      },
    ])
    expect(activity.memcpys).toEqual([
      {
        ...common,
        startNs: from,
        endNs: from + 1000,
        bytes: 4096,
        source: 'pinned',
        destination: 'device',
      },
    ])
    expect(activity.memsets).toEqual([
      { ...common, startNs: from + 6000, endNs: from + 6100, bytes: 512, memory: 'device' },
    ])
  })

  it('tells the graph that a kernel is a node of', async () => {
    const session = open()
    await session.start()
    fake.launch(0, 10, 9)
    const { kernels, memcpys, memsets } = await session.stop()
    expect(kernels).toMatchObject([{ name: 'swiglu', graph: { id: 9, nodeId: 71 } }])
    expect(memcpys).toMatchObject([{ graph: { id: 9, nodeId: 70 } }])
    expect(memsets).toMatchObject([{ graph: { id: 9, nodeId: 72 } }])
  })

  it('has API calls when they are asked for, polling left out', async () => {
    const session = open()
    await session.start({ apiCalls: true })
    fake.launch(0, 10, 0)
    const { apiCalls, kernels } = await session.stop()
    expect(apiCalls.map(({ name }) => name).sort()).toEqual(['cuLaunchKernel', 'cudaLaunchKernel_v7000'])
    for (const call of apiCalls) {
      expect(call).toMatchObject({ threadId: 4711, correlationId: kernels[0]!.correlationId })
      expect(call.endNs - call.startNs).toBe(3000)
    }
  })

  it('counts work that was not over as dropped, and names it', async () => {
    const session = open()
    await session.start()
    fake.launch(0, 0, 0)
    fake.launch(0, 10, 0)
    const { kernels, droppedRecords, unfinishedKernels } = await session.stop()
    expect(kernels).toHaveLength(1)
    expect(droppedRecords).toBe(1)
    expect(unfinishedKernels).toEqual(['swiglu'])
  })

  it('begins anew each time, and records nothing in between', async () => {
    const session = open()
    await session.start()
    fake.launch(0, 10, 0)
    expect((await session.stop()).kernels).toHaveLength(1)
    fake.launch(0, 10, 0)
    await session.start()
    fake.launch(1, 20, 0)
    const { kernels } = await session.stop()
    expect(kernels.map(({ name }) => name)).toEqual(['cutlass::device_kernel(int)'])
    expect(fake.enabledKinds()).toBe(0)
  })

  it('reads the records of CUDA 12.9', async () => {
    const older = compileFakeCupti(28)
    const session = new ActivitySession(loadCupti(older.path))
    await session.start()
    older.launch(0, 10, 9)
    older.launch(1, 20, 0)
    const { kernels, memcpys, memsets } = await session.stop()
    expect(kernels.map(({ name, startNs, endNs }) => [name, endNs - startNs])).toEqual([
      ['swiglu', 10],
      ['cutlass::device_kernel(int)', 20],
    ])
    expect([kernels[0]!.graph?.nodeId, memcpys.length, memsets.length]).toEqual([71, 2, 2])
  })

  it('needs no cuptiActivityEnableDriverApi, which CUDA 12.4 lacks', async () => {
    const older = compileFakeCupti(22)
    const session = new ActivitySession(loadCupti(older.path))
    await session.start({ apiCalls: true })
    older.launch(0, 10, 0)
    const { apiCalls } = await session.stop()
    expect(apiCalls.map(({ name }) => name)).toContain('cuStreamQuery')
  })
})

describe.skipIf(!canCompile)('a recording is refused', () => {
  let fake: FakeCupti
  const open = () => new ActivitySession(loadCupti(fake.path))
  beforeAll(() => {
    fake = compileFakeCupti()
  })

  it('where the records of the version are not known', async () => {
    for (const version of [17, 29, 129_999, 130_600]) {
      fake.setVersion(version)
      const error = thrownBy(() => open())
      expect(error).toMatchObject({ code: 'CUPTI_VERSION', details: { version, path: fake.path } })
      expect(error.message).toContain('13.4 and 13.5')
    }
    for (const version of knownCuptiVersions.flatMap(({ first, last }) => [first, last])) {
      fake.setVersion(version)
      open()
    }
    fake.setVersion(130_001)
  })

  it('where the driver does not permit it', async () => {
    fake.fail('cuptiActivityEnable', 35)
    const session = open()
    const error = await failureOf(session.start())
    expect(error).toMatchObject({
      code: 'PROFILING_NOT_PERMITTED',
      details: { api: 'cuptiActivityEnable', status: 35, name: 'CUPTI_ERROR_INSUFFICIENT_PRIVILEGES' },
    })
    expect(error.message).toContain('NVreg_RestrictProfilingToAdminUsers=0')
  })

  it('where libcupti is newer than the driver, with the way out', async () => {
    fake.fail('cuptiSubscribe', 14)
    const error = await failureOf(open().start())
    expect(error).toMatchObject({ code: 'CUPTI_STATUS', details: { api: 'cuptiSubscribe', status: 14 } })
    expect(error.message).toContain('put an older one first in LD_LIBRARY_PATH')
  })

  it('where another profiler is at work', async () => {
    fake.fail('cuptiSubscribe', 39)
    expect(await failureOf(open().start())).toMatchObject({ code: 'PROFILER_BUSY' })
  })

  it('while one is under way', async () => {
    const session = open()
    await session.start()
    expect(await failureOf(session.start())).toMatchObject({
      code: 'PROFILER_BUSY',
      details: { holder: 'a recording of this process' },
    })
    await session.stop()
  })

  it('and leaves nothing enabled, so that the next can start', async () => {
    const session = open()
    for (const api of [
      'cuptiActivitySetAttribute',
      'cuptiActivityRegisterCallbacks',
      'cuptiActivityEnableDriverApi',
    ]) {
      fake.fail(api, 999)
      expect(await failureOf(session.start({ apiCalls: true }))).toMatchObject({
        code: 'CUPTI_STATUS',
        details: { api, status: 999 },
      })
      expect(fake.enabledKinds()).toBe(0)
    }
    await session.start()
    fake.launch(0, 10, 0)
    expect((await session.stop()).kernels).toHaveLength(1)
  })

  it('a failing flush is told, and ends the recording', async () => {
    const session = open()
    await session.start()
    fake.fail('cuptiActivityFlushAll', 999)
    expect(await failureOf(session.stop())).toMatchObject({ code: 'CUPTI_STATUS' })
    expect(fake.enabledKinds()).toBe(0)
    await session.start()
    await session.stop()
  })
})
