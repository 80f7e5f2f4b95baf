// Every kernel of the native engine against its oracle on this GPU, then its time with nothing in the L2 cache.
//   node benchmarks/gpu/kernels.mjs [--check] [--small] [--variants flash-attention|few-rows] [--only REGEXP] [--gpu 0] [--rounds 20]
//     [--cache FOLDER] [--out FILE]
// --check: only whether they are right. --small: only the small shapes; what goes beyond a buffer, within a minute:
//   compute-sanitizer --tool memcheck --target-processes all node benchmarks/gpu/kernels.mjs --check --small
// --variants: a kernel as it could be built instead, each way at the shapes that matter. Needs dist/, an NVIDIA driver and NVRTC; with cuBLASLt its products are checked too.
// A check that breaks the GPU's context or hangs ends its own process only; the rest goes on in the next. Prints a line a
// check, then one JSON line; exit code 1 when any failed.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { canRun, isPassed, KernelBench } from '../../dist/engines/cuda/checks/kernel-bench.js'
import { kernelChecks } from '../../dist/engines/cuda/checks/kernel-checks.js'
import { makeMatmulChecks } from '../../dist/engines/cuda/checks/matmul-checks.js'
import { makeFewRowsVariantChecks } from '../../dist/engines/cuda/kernels/few-rows-product.check.js'
import { makeAttentionVariantChecks } from '../../dist/engines/cuda/kernels/flash-attention.check.js'
import { KernelLoader } from '../../dist/engines/cuda/kernels/kernel-loader.js'
import { measureGpuPeak } from '../../dist/hardware/machine/gpu-peak.js'
import { openNative } from './open-native.mjs'

const { values: flags } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    small: { type: 'boolean', default: false },
    variants: { type: 'string' },
    only: { type: 'string', default: '' },
    gpu: { type: 'string', default: '0' },
    rounds: { type: 'string', default: '20' },
    cache: { type: 'string' },
    out: { type: 'string' },
    from: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const variantsOf = {
  'flash-attention': makeAttentionVariantChecks,
  'few-rows': makeFewRowsVariantChecks,
}
/** Of one check, compilation and oracle included. */
const hangMs = 120_000

if (flags.help) {
  console.log('see the head of benchmarks/gpu/kernels.mjs')
} else if (flags.variants !== undefined && !Object.hasOwn(variantsOf, flags.variants)) {
  console.log(`no variants of '${flags.variants}': there are those of ${Object.keys(variantsOf).join(', ')}`)
  process.exitCode = 2
} else if (flags.from === undefined) await superviseChecks()
else await runChecks(Number(flags.from))

/** In this process, from one check on; a line of JSON each. */
async function runChecks(from) {
  const { gpu, compiler, matmul, machine } = await openNative(flags)
  const loader = new KernelLoader(gpu, compiler)
  const all = [...(matmul === undefined ? [] : makeMatmulChecks(matmul)), ...kernelChecks]
  const checks = (flags.variants === undefined ? all : variantsOf[flags.variants]()).filter(
    ({ name, size }) => new RegExp(flags.only).test(name) && (size === 'small' || !flags.small),
  )
  const { major, minor } = gpu.device.computeCapability
  report({
    machine,
    limits: flags.check || from > 0 ? undefined : await measureLimits(gpu, matmul),
    count: checks.length,
  })
  for (const [index, check] of checks.entries()) {
    if (index < from) continue
    report({ started: index, name: check.name })
    if (!canRun(check, major * 10 + minor)) {
      const { name, minArchitecture } = check
      report({ index, name, skipped: `needs sm_${minArchitecture}` })
      continue
    }
    let bench
    try {
      bench = new KernelBench(loader, {
        rounds: flags.check || check.size === 'small' ? 0 : Number(flags.rounds),
      })
      await check.run(bench)
      const { comparisons, timing } = bench
      report({ index, name: check.name, passed: isPassed(comparisons), comparisons, timing })
      bench[Symbol.dispose]()
    } catch (error) {
      report({
        index,
        name: check.name,
        passed: false,
        error: String(error),
        comparisons: bench?.comparisons,
      })
      // After a failed launch nothing works in this context.
      if (error?.code === 'CUDA_STATUS' || error?.code === 'CUBLAS_STATUS') process.exit(3)
    }
  }
  process.exit(0)
}

/** What this GPU gives to a plain copy, in bytes read and written, and to large products by cuBLASLt: the limits beside which
 * each kernel's figures stand. */
async function measureLimits(gpu, matmul) {
  if (matmul === undefined) return undefined
  const { flopsByPrecision, memoryBytesPerSecond } = await measureGpuPeak(gpu, matmul.cublaslt)
  const tflops = Object.entries(flopsByPrecision).map(([precision, flops]) => [precision, flops / 1e12])
  return { copyGbPerSecond: memoryBytesPerSecond / 1e9, tflops: Object.fromEntries(tflops) }
}

function report(entry) {
  process.stdout.write(`${JSON.stringify(entry)}\n`)
}

async function superviseChecks() {
  const results = new Map()
  let machine
  let limits
  let [next, count] = [0, 1]
  while (next < count) {
    let running
    const child = spawn(
      process.execPath,
      [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--from', String(next)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)))
    const startedAt = next
    let timer = setTimeout(() => child.kill('SIGKILL'), hangMs)
    for await (const line of createInterface({ input: child.stdout })) {
      clearTimeout(timer)
      timer = setTimeout(() => child.kill('SIGKILL'), hangMs)
      let entry
      try {
        entry = JSON.parse(line)
      } catch {
        console.log(line)
        continue
      }
      if (entry.machine !== undefined) {
        count = entry.count
        limits ??= entry.limits
        if (machine === undefined) {
          machine = entry.machine
          console.log(
            Object.entries(machine)
              .map(([key, value]) => `${key} ${value}`)
              .join(', '),
          )
          if (limits !== undefined) {
            const products = Object.entries(limits.tflops).map(
              ([precision, tflops]) => `${precision} products ${tflops.toFixed(0)} TFLOPS`,
            )
            console.log([`copy on the GPU ${limits.copyGbPerSecond.toFixed(0)} GB/s`, ...products].join(', '))
          }
        }
      } else if (entry.started !== undefined) running = entry
      else {
        results.set(entry.index, entry)
        next = entry.index + 1
        running = undefined
        printResult(entry, limits)
      }
    }
    clearTimeout(timer)
    const how = await ended
    if (running !== undefined) {
      const entry = {
        index: running.started,
        name: running.name,
        passed: false,
        error: `its process ended with ${how}`,
      }
      results.set(entry.index, entry)
      next = entry.index + 1
      printResult(entry)
    } else if (how === 0) break
    else if (next === startedAt) {
      console.log(`FAILED: the process ended with ${how} before its first check`)
      process.exit(1)
    }
  }
  const entries = [...results.values()]
  const failed = entries.filter(({ passed, skipped }) => passed !== true && skipped === undefined)
  console.log(`${entries.length} checks, ${failed.length} failed`)
  const record = JSON.stringify({
    command: ['node', 'benchmarks/gpu/kernels.mjs', ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    commit: process.env.COMMIT,
    node: process.version,
    machine,
    limits,
    results: entries,
  })
  if (flags.out !== undefined) writeFileSync(flags.out, `${record}\n`)
  console.log(record)
  process.exit(failed.length === 0 ? 0 : 1)
}

function printResult({ name, passed, skipped, error, comparisons = [], timing }, limits) {
  const verdict = skipped !== undefined ? 'skip' : passed ? 'ok  ' : 'FAIL'
  const time = timing === undefined ? '' : describeTiming(timing, limits)
  const worst = comparisons.map((each) => `${each.what} ${each.worst.toFixed(2)}`).join(', ')
  console.log(`${verdict} ${name}: ${skipped ?? time}${worst === '' ? '' : ` [error / tolerance: ${worst}]`}`)
  if (error !== undefined) console.log(`     ${error}`)
  if (passed === false) {
    for (const { what, count, nanCount, at, actual, expected } of comparisons)
      console.log(
        `     ${what}: ${nanCount} of ${count} NaN; worst at ${at}: ${actual}, expected ${expected}`,
      )
  }
}

/** Achieved beside what the GPU gives to a copy and to a large product. */
function describeTiming({ medianUs, gbPerSecond, tflops, precision }, limits) {
  const parts = [
    `${medianUs.toFixed(1)} us`,
    `${gbPerSecond.toFixed(0)} GB/s${share(gbPerSecond, limits?.copyGbPerSecond, 'a copy')}`,
  ]
  if (tflops > 0)
    parts.push(
      `${tflops.toFixed(0)} TFLOPS${share(tflops, limits?.tflops[precision], `a large ${precision} product`)}`,
    )
  return parts.join(', ')
}

function share(value, limit, of) {
  return limit === undefined ? '' : ` (${((100 * value) / limit).toFixed(0)} % of ${of})`
}
