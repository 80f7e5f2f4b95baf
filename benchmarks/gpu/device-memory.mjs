// Where the GPU's memory goes before a model is loaded: the driver's context, cuBLASLt, its first product.
//   node benchmarks/gpu/device-memory.mjs [--stack BYTES] [--workspace-mib 32] [--out FILE]
// --stack: the limit of a thread's stack is lowered to so much right after the context is made (CUDA sets 1,024 bytes, for
// every thread the GPU can hold). Figures are of the whole GPU: nothing else should run there. Needs dist/, an NVIDIA
// driver, NVRTC and cuBLASLt. One JSON line last.
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { DeviceBuffer } from '../../dist/hardware/gpu/device-buffer.js'
import { openGpu } from '../../dist/hardware/gpu/context.js'
import { Matmul, MatmulLibrary } from '../../dist/hardware/gpu/matmul.js'
import { GpuStream } from '../../dist/hardware/gpu/stream.js'
import { findNativeLibraries } from './open-native.mjs'

const { values: flags } = parseArgs({
  options: {
    stack: { type: 'string' },
    'workspace-mib': { type: 'string', default: '32' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  const head = readFileSync(new URL(import.meta.url), 'utf8').split('\nimport ')[0]
  console.log(head.replaceAll(/^\/\/ ?/gm, ''))
  process.exit(0)
}

const { cuda, cublaslt } = findNativeLibraries({})
const gpu = await openGpu(cuda)
const steps = []
note('the context')
if (flags.stack !== undefined) {
  gpu.limitStack(Number(flags.stack))
  note(`stack limit ${flags.stack}`)
}
const stream = new GpuStream(gpu, 'memory')
note('a stream')
const library = new MatmulLibrary(gpu, cublaslt, { workspaceBytes: Number(flags['workspace-mib']) << 20 })
note(`cuBLASLt and ${flags['workspace-mib']} MiB of workspace`)
const buffer = new DeviceBuffer(gpu, 'operands', 64 << 20)
stream.setBytes(buffer, 0)
await stream.idle()
note('64 MiB of operands')
for (const [precision, rows] of [
  ['bf16', 512],
  ['fp8', 16],
  ['fp8', 512],
  ['fp8', 4096],
  ['fp8-rowwise', 512],
]) {
  try {
    const matmul = new Matmul(library, { precision, rows, columns: 2560, inner: 2560 })
    const [a, b, d, scale] = [0, 16, 32, 60].map((mib) => buffer.handle + BigInt(mib << 20))
    const operands = { a, b, d, ...(precision === 'bf16' ? {} : { aScale: scale, bScale: scale }) }
    matmul.launch(stream, operands, matmul.heuristics(operands)[0])
    await stream.idle()
    note(`a product of ${precision}, ${rows} rows`)
  } catch (error) {
    console.log(`${precision}: ${String(error)}`)
  }
}
const record = {
  command: ['node', 'benchmarks/gpu/device-memory.mjs', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  gpu: gpu.device.name,
  cublasLt: library.version,
  steps,
}
gpu[Symbol.dispose]()
const line = JSON.stringify(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${line}\n`)
console.log(line)

function note(what) {
  const { freeBytes, totalBytes } = gpu.readMemory()
  const usedMib = Math.round((totalBytes - freeBytes) / 2 ** 20)
  const addedMib = usedMib - (steps.at(-1)?.usedMib ?? 0)
  steps.push({ what, usedMib, addedMib })
  console.log(`${what}: + ${addedMib} MiB, ${usedMib} MiB used`)
}
