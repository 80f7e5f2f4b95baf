// Which kernel never ends: the native engine on a thread of its own, CUPTI's records of what it launched read from outside.
//   node benchmarks/gpu/find-hang.mjs [--shape small|4b] [--folder FOLDER] [--precision fp8] [--workloads 1x16,1x64,5x30]
//     [--seconds 15] [--cache FOLDER] [--graphs 0]
// A step that takes longer than --seconds ends the run: it prints the kernels that were finished last and, in the order of
// their launch, those that were not; the first of these hangs. The process then ends by SIGKILL. Exit code 0: no step hung.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { openCudaEngine } from '../../dist/engines/cuda/cuda-engine.js'
import { DiskCache } from '../../dist/hardware/gpu/disk-cache.js'
import { ActivityRecorder } from '../../dist/hardware/gpu/activity-recorder.js'
import { findNativeLibraries, pathOf } from './open-native.mjs'
import { shapes, writeSyntheticQwen3 } from './synthetic-qwen3.mjs'

if (isMainThread) await watch()
else await run(workerData)

async function watch() {
  const { values: flags } = parseArgs({
    options: {
      shape: { type: 'string', default: 'small' },
      folder: { type: 'string' },
      precision: { type: 'string', default: 'fp8' },
      workloads: { type: 'string', default: '1x16,1x64,5x30' },
      seconds: { type: 'string', default: '15' },
      cache: { type: 'string' },
      graphs: { type: 'string', default: '0' },
      help: { type: 'boolean', default: false },
    },
  })
  if (flags.help) {
    console.log('see the head of benchmarks/gpu/find-hang.mjs')
    return
  }
  const temporary = mkdtempSync(join(tmpdir(), 'akidb-hang-'))
  process.on('exit', () => rmSync(temporary, { recursive: true, force: true }))
  const folder = flags.folder ?? join(temporary, 'weights')
  writeSyntheticQwen3(folder, shapes[flags.shape], 512)
  const cuptiPath = pathOf('libcupti')
  if (cuptiPath === undefined) throw new Error('libcupti was not found: set LD_LIBRARY_PATH to its folder')
  const recorder = new ActivityRecorder({ cuptiPath })
  await recorder.start()
  const worker = new Worker(new URL(import.meta.url), { workerData: { ...flags, folder } })
  let [step, sinceMs] = ['start', performance.now()]
  worker.on('message', (next) => {
    console.log(`${step}: ${(performance.now() - sinceMs).toFixed(0)} ms`)
    step = next
    sinceMs = performance.now()
  })
  let hasFailed = false
  worker.on('error', (error) => {
    hasFailed = true
    console.log(`${step} failed: ${error.stack ?? error}`)
  })
  const ended = new Promise((resolve) => worker.on('exit', () => resolve('ended')))
  const timer = setInterval(() => {
    if (performance.now() - sinceMs < Number(flags.seconds) * 1e3) return
    clearInterval(timer)
    void report(recorder, step)
  }, 200)
  await ended
  clearInterval(timer)
  await recorder.stop()
  if (!hasFailed) console.log('no step hung')
  process.exit(hasFailed ? 1 : 0)
}

async function report(recorder, step) {
  console.log(`HANGS: ${step}`)
  const { kernels, unfinishedKernels } = await recorder.stop()
  console.log(`finished, the last of ${kernels.length}:`)
  for (const { name, grid, block } of kernels.slice(-8))
    console.log(`  ${name} grid ${grid.join('x')} block ${block.join('x')}`)
  if (unfinishedKernels.length === 0) console.log('no kernel is unfinished: the CPU does not come back')
  else console.log(`not finished, the first of ${unfinishedKernels.length}:`)
  for (const name of unfinishedKernels.slice(0, 8)) console.log(`  ${name}`)
  process.kill(process.pid, 'SIGKILL') // its context waits for the kernel for ever
}

function say(step) {
  parentPort.postMessage(step)
}

async function run(flags) {
  const libraries = findNativeLibraries({ cache: flags.cache })
  const config = { ...shapes[flags.shape] }
  const spec = writeSyntheticQwen3(flags.folder, config, 512)
  for (const precision of flags.precision.split(',')) {
    say(`${precision}: open`)
    const cache =
      flags.cache === undefined ? {} : { algorithmCache: new DiskCache(join(flags.cache, 'algorithms')) }
    const options = {
      spec,
      precision,
      scales: { kind: 'fixed', scale: 32 / 448 },
      graphs: Number(flags.graphs),
      ...cache,
    }
    const engine = await openCudaEngine(options, libraries)
    for (const workload of flags.workloads.split(',')) {
      const [sequences, tokens] = workload.split('x').map(Number)
      for (const time of ['first', 'second', 'third']) {
        say(`${precision}: ${workload}, ${time} time`)
        await engine.embed({
          inputIds: Int32Array.from(
            { length: sequences * tokens },
            (_, i) => (i * 7919 + 5) % config.vocabulary,
          ),
          cumulativeLengths: Int32Array.from({ length: sequences + 1 }, (_, i) => i * tokens),
        })
      }
    }
    say(`${precision}: dispose`)
    await engine[Symbol.asyncDispose]()
  }
  say('end')
}
