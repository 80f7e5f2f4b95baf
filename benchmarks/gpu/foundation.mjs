// The GPU foundation on this machine: buffers, copies, waits, overlap, graphs, pools; checks results, then measures.
//   node benchmarks/gpu/foundation.mjs [--libcuda libcuda.so.1] [--gpu 0] [--rounds 20] [--out FILE]
// Needs dist/ and an NVIDIA driver, nothing else. Prints a table, then one JSON line; exit code 1 when a check fails.
import { readFileSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { loadCuda } from '../../dist/hardware/ffi/cuda.js'
import { BufferPool } from '../../dist/hardware/gpu/buffer-pool.js'
import { openGpu } from '../../dist/hardware/gpu/context.js'
import { DeviceBuffer } from '../../dist/hardware/gpu/device-buffer.js'
import { GpuEvent } from '../../dist/hardware/gpu/event.js'
import { captureGraph } from '../../dist/hardware/gpu/graph.js'
import { KernelArguments } from '../../dist/hardware/gpu/kernel-arguments.js'
import { GpuModule } from '../../dist/hardware/gpu/module.js'
import { PinnedBuffer } from '../../dist/hardware/gpu/pinned-buffer.js'
import { StagingBuffer } from '../../dist/hardware/gpu/staging-buffer.js'
import { GpuStream } from '../../dist/hardware/gpu/stream.js'
import { StreamPool } from '../../dist/hardware/gpu/stream-pool.js'

const { values: flags } = parseArgs({
  options: {
    libcuda: { type: 'string', default: 'libcuda.so.1' },
    gpu: { type: 'string', default: '0' },
    rounds: { type: 'string', default: '20' },
    out: { type: 'string' },
  },
})
const rounds = Number(flags.rounds)
const MiB = 1 << 20
const rows = []
const failures = []
const record = { date: new Date().toISOString(), node: process.version, rounds }

const live = {}
const cuda = countLive(loadCuda(flags.libcuda), live)
const openFrom = performance.now()
const gpu = await openGpu(cuda, { ordinal: Number(flags.gpu) })
record.openMs = performance.now() - openFrom
const driverVersion = [null]
cuda.cuDriverGetVersion(driverVersion)
const { major, minor } = gpu.device.computeCapability
record.gpu = { ...gpu.device, cudaVersion: driverVersion[0] / 1000, memory: gpu.readMemory() }
console.log(
  `${gpu.device.name} sm_${major}${minor}, ${(gpu.device.totalBytes / 2 ** 30).toFixed(1)} GiB, CUDA ${driverVersion[0] / 1000}, integrated: ${gpu.device.isIntegrated}; load ${loadavg()[0].toFixed(2)}`,
)
row('open CUDA and the context', `${record.openMs.toFixed(0)} ms`)

const ptx = readFileSync(new URL('../../test/fixtures/increment.ptx', import.meta.url), 'utf8')
const increment = new GpuModule(gpu, 'increment', ptx).kernel('increment')

record.copies = await measureCopies()
record.waits = await measureWaits()
record.launches = await measureLaunches()
record.overlap = await measureOverlap()
record.pool = await measurePool()

gpu[Symbol.dispose]()
record.liveAtEnd = { ...live }
const left = Object.entries(live).filter(([, count]) => count !== 0)
check('nothing is left', left.length === 0, JSON.stringify(left))
row('live objects at the end', left.length === 0 ? '0' : JSON.stringify(left))

const width = Math.max(...rows.map(([name]) => name.length))
for (const [name, value] of rows) console.log(`${name.padEnd(width)}  ${value}`)
for (const failure of failures) console.log(`FAILED: ${failure}`)
record.failures = failures
const line = JSON.stringify(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${line}\n`)
console.log(line)
process.exit(failures.length === 0 ? 0 : 1)

/** GB/s and microseconds of copies by size, pinned beside pageable; host clock around enqueue and wait for both. */
async function measureCopies() {
  const stream = new GpuStream(gpu, 'copies')
  const results = []
  for (const bytes of [4 << 10, 64 << 10, MiB, 16 * MiB, 128 * MiB]) {
    const device = new DeviceBuffer(gpu, 'copies', bytes)
    const pinned = new PinnedBuffer(gpu, 'copies', bytes)
    const back = new PinnedBuffer(gpu, 'back', bytes)
    const pageable = new Uint8Array(bytes)
    fillRandom(pinned.uint8())
    pageable.set(pinned.uint8())
    stream.copy(device, pinned)
    stream.copy(back, device)
    await stream.idle()
    check(`${bytes} bytes come back whole`, Buffer.from(back.memory).equals(Buffer.from(pinned.memory)))
    const us = {
      pinnedH2d: await timeUs(stream, () => stream.copy(device, pinned)),
      pinnedD2h: await timeUs(stream, () => stream.copy(back, device)),
      pageableH2d: await timeUs(stream, () =>
        gpu.makeCurrent().cuMemcpyHtoDAsync_v2(device.handle, pageable, bytes, stream.handle),
      ),
      pageableD2h: await timeUs(stream, () =>
        gpu.makeCurrent().cuMemcpyDtoHAsync_v2(pageable, device.handle, bytes, stream.handle),
      ),
    }
    check(`${bytes} pageable bytes come back whole`, Buffer.from(pageable).equals(Buffer.from(pinned.memory)))
    const gbps = Object.fromEntries(Object.entries(us).map(([name, time]) => [name, bytes / time / 1e3]))
    results.push({ bytes, us, gbps })
    const shown = Object.entries(us).map(
      ([name, time]) => `${name} ${time.toFixed(1)} us ${gbps[name].toFixed(1)} GB/s`,
    )
    row(`copy ${bytes >= MiB ? `${bytes / MiB} MiB` : `${bytes >> 10} KiB`}`, shown.join(' | '))
    for (const buffer of [device, pinned, back]) buffer[Symbol.dispose]()
  }
  stream[Symbol.dispose]()
  return results
}

/** What a wait costs: by polling (what gpu/ does), blocking, and on a thread of koffi's, where no context is current. */
async function measureWaits() {
  const stream = new GpuStream(gpu, 'waits')
  const event = new GpuEvent(gpu, { timing: true })
  const start = new GpuEvent(gpu, { timing: true })
  const staging = new StagingBuffer(gpu, 'waits', MiB)
  const kernelArguments = new KernelArguments(['pointer', 'u32', 'u32']).set(
    staging.devicePointer,
    MiB / 4,
    300,
  )
  const run = async (wait) => {
    const overheads = []
    for (let i = 0; i < rounds; i++) {
      const from = performance.now()
      start.record(stream)
      increment.launch(stream, { grid: [MiB / 4 / 256], block: [256] }, kernelArguments)
      event.record(stream)
      await wait()
      overheads.push((performance.now() - from - event.elapsedMsSince(start)) * 1e3)
    }
    return median(overheads)
  }
  const results = {
    pollingUs: await run(() => event.done()),
    blockingUs: await run(() => cuda.cuEventSynchronize(event.handle)),
  }
  try {
    results.otherThreadUs = await run(() => cuda.cuEventSynchronize.async(event.handle))
  } catch (error) {
    results.otherThread = error.message
  }
  const queries = 10_000
  const from = performance.now()
  for (let i = 0; i < queries; i++) check('a done event stays done', event.isDone)
  results.queryUs = ((performance.now() - from) * 1e3) / queries
  row(
    'launch and wait beyond the kernel time',
    `polling ${results.pollingUs.toFixed(1)} us | blocking ${results.blockingUs.toFixed(1)} us | other thread ${results.otherThreadUs?.toFixed(1) ?? results.otherThread} us | one query ${results.queryUs.toFixed(2)} us`,
  )
  for (const resource of [stream, event, start, staging]) resource[Symbol.dispose]()
  return results
}

/** The host's time for 100 kernels, one by one and as one graph; the graph's results are checked. */
async function measureLaunches() {
  const kernels = 100
  const count = 1024
  const stream = new GpuStream(gpu, 'launches')
  const staging = new StagingBuffer(gpu, 'launches', count * 4)
  const kernelArguments = new KernelArguments(['pointer', 'u32', 'u32']).set(staging.devicePointer, count, 1)
  const enqueue = () => {
    for (let i = 0; i < kernels; i++) increment.launch(stream, { grid: [4], block: [256] }, kernelArguments)
  }
  const graph = captureGraph(stream, () => {
    staging.upload(stream)
    enqueue()
    staging.download(stream)
  })
  staging.host.int32().fill(7)
  graph.launch(stream)
  await stream.idle()
  check(
    'a graph of copies and kernels gives what it should',
    staging.host.int32().every((v) => v === 7 + kernels),
  )
  const hostUs = []
  for (let i = 0; i < rounds; i++) {
    const from = performance.now()
    enqueue()
    hostUs.push(((performance.now() - from) * 1e3) / kernels)
    await stream.idle()
  }
  const results = {
    kernels,
    launchUs: median(hostUs),
    singlyUs: (await timeUs(stream, enqueue)) / kernels,
    graphUs: (await timeUs(stream, () => graph.launch(stream))) / kernels,
  }
  row(
    `${kernels} kernels, us each`,
    `one by one ${results.singlyUs.toFixed(2)} (host ${results.launchUs.toFixed(2)}) | graph with copies ${results.graphUs.toFixed(2)}`,
  )
  for (const resource of [graph, stream, staging]) resource[Symbol.dispose]()
  return results
}

/** Batches through the four streams: their stages by the GPU's clock, and the time against the sum of the stages. */
async function measureOverlap() {
  const batches = 8
  const bytes = 16 * MiB
  const pool = new StreamPool(gpu, { timing: true })
  const buffers = Array.from({ length: batches }, (_, i) => new StagingBuffer(gpu, `batch ${i}`, bytes))
  const shape = { grid: [bytes / 4 / 256], block: [256] }
  const run = (staging, expected) =>
    pool.runBatch({
      h2d: (stream) => staging.upload(stream),
      compute: (stream) =>
        increment.launch(
          stream,
          shape,
          new KernelArguments(['pointer', 'u32', 'u32']).set(staging.devicePointer, bytes / 4, expected),
        ),
      d2h: (stream) => staging.download(stream),
    })
  await run(buffers[0], 1)
  for (const { host } of buffers) host.int32().fill(0)
  const from = performance.now()
  const times = await Promise.all(buffers.map((staging, i) => run(staging, 20 + i)))
  const wallMs = performance.now() - from
  check(
    'every batch gets its own result',
    buffers.every(({ host }, i) => host.int32().every((v) => v === 20 + i)),
  )
  const stages = times.flatMap((time) => Object.values(time))
  const spanMs = Math.max(...stages.map(({ toMs }) => toMs)) - Math.min(...stages.map(({ fromMs }) => fromMs))
  const sumMs = stages.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0)
  const beside = times.slice(1).filter((time, i) => isBeside(time.h2d, times[i].compute)).length
  if (!gpu.device.isIntegrated) check('copies run beside kernels', beside > 0)
  row(
    `${batches} batches of 16 MiB, 4 streams`,
    `${spanMs.toFixed(2)} ms for stages of ${sumMs.toFixed(2)} ms; ${beside} of ${batches - 1} copies in beside the kernel before; host ${wallMs.toFixed(2)} ms`,
  )
  pool[Symbol.dispose]()
  for (const staging of buffers) staging[Symbol.dispose]()
  return { batches, bytes, spanMs, sumMs, besideCount: beside, wallMs, times }
}

/** 64 requests for staging buffers, 8 to be had. */
async function measurePool() {
  const create = (bytes) => new StagingBuffer(gpu, 'pooled', bytes)
  const pool = new BufferPool({ name: 'the pool', create })
  const stream = new GpuStream(gpu, 'pool')
  const from = performance.now()
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      const lease = await pool.acquire(256 << 10)
      lease.buffer.upload(stream)
      await stream.idle()
      lease[Symbol.dispose]()
    }),
  )
  const statistics = { ...pool.statistics, wallMs: performance.now() - from }
  check(
    'the pool stays at its capacity',
    statistics.idle === 8 && statistics.acquired === 64,
    JSON.stringify(statistics),
  )
  row(
    '64 leases of 8 buffers',
    `reused ${statistics.reused}, waited ${statistics.waited} for ${statistics.waitedMs.toFixed(2)} ms together, ${statistics.wallMs.toFixed(2)} ms`,
  )
  pool[Symbol.dispose]()
  stream[Symbol.dispose]()
  return statistics
}

async function timeUs(stream, enqueue) {
  const times = []
  for (let i = -3; i < rounds; i++) {
    const from = performance.now()
    enqueue()
    await stream.idle()
    if (i >= 0) times.push((performance.now() - from) * 1e3)
  }
  return median(times)
}

function isBeside(a, b) {
  return a.fromMs < b.toMs && b.fromMs < a.toMs
}

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}

/** Zeros would be copied no slower, but a copy that did nothing would not be noticed. */
function fillRandom(bytes) {
  let state = 12345
  for (let i = 0; i < bytes.length; i++) {
    state = (state * 1103515245 + 12345) & 0x7fffffff
    bytes[i] = state >> 16
  }
}

function row(name, value) {
  rows.push([name, value])
}

function check(what, holds, detail = '') {
  if (!holds) failures.push(`${what} ${detail}`.trim())
}

/** The same functions, counting what is made and freed. */
function countLive(api, counts) {
  const pairs = [
    ['contexts', 'cuDevicePrimaryCtxRetain', 'cuDevicePrimaryCtxRelease_v2'],
    ['deviceBuffers', 'cuMemAlloc_v2', 'cuMemFree_v2'],
    ['pinnedBuffers', 'cuMemHostAlloc', 'cuMemFreeHost'],
    ['streams', 'cuStreamCreate', 'cuStreamDestroy_v2'],
    ['events', 'cuEventCreate', 'cuEventDestroy_v2'],
    ['modules', 'cuModuleLoadData', 'cuModuleUnload'],
    ['graphs', 'cuStreamEndCapture', 'cuGraphDestroy'],
    ['graphExecs', 'cuGraphInstantiateWithFlags', 'cuGraphExecDestroy'],
  ]
  const counted = { ...api }
  for (const [what, make, free] of pairs) {
    counts[what] = 0
    for (const [name, step] of [
      [make, 1],
      [free, -1],
    ]) {
      const call = (...args) => {
        api[name](...args)
        counts[what] += step
      }
      call.async = async (...args) => {
        await api[name].async(...args)
        counts[what] += step
      }
      counted[name] = call
    }
  }
  return counted
}
