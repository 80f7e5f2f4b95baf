// For a pass that does not end: each launch is told before it is made and waited for after it, so that the last line names it.
import { writeSync } from 'node:fs'

const streamByte = 32

/** @param libraries as the engine takes them; it must record no graphs
 * @param limitMs a launch that takes longer ends the process, with its name */
export function traceLaunches(libraries, limitMs = 3000) {
  const { cuda, cublaslt } = libraries
  const names = new Map()
  let count = 0
  const watch = (what, stream, launch) => {
    count++
    writeSync(2, `${count} ${what}\n`)
    launch()
    const from = performance.now()
    while (!cuda.cuStreamQuery(stream)) {
      if (performance.now() - from < limitMs) continue
      writeSync(2, `launch ${count}, ${what}, does not end within ${limitMs} ms\n`)
      process.kill(process.pid, 'SIGKILL')
    }
  }
  const tracedCuda = {
    ...cuda,
    cuModuleGetFunction: (out, module, name) => {
      cuda.cuModuleGetFunction(out, module, name)
      names.set(out[0], name)
    },
    cuLaunchKernel: (fn, ...rest) =>
      watch(`${names.get(fn)} <<<${rest.slice(0, 6).join(' ')}>>>`, rest[7], () =>
        cuda.cuLaunchKernel(fn, ...rest),
      ),
    cuLaunchKernelEx: (config, fn, ...rest) => {
      const view = new DataView(config.buffer, config.byteOffset, config.byteLength)
      const dimensions = Array.from({ length: 6 }, (_, i) => view.getUint32(4 * i, true)).join(' ')
      watch(`${names.get(fn)} <<<${dimensions}>>>, overlapping`, view.getBigUint64(streamByte, true), () =>
        cuda.cuLaunchKernelEx(config, fn, ...rest),
      )
    },
  }
  const tracedCublaslt = {
    ...cublaslt,
    cublasLtMatmul: (...args) => watch('cublasLtMatmul', args.at(-1), () => cublaslt.cublasLtMatmul(...args)),
  }
  return { ...libraries, cuda: tracedCuda, cublaslt: tracedCublaslt }
}

/** Tells what begins at once, whatever the event loop does. */
export function tellStage(what) {
  writeSync(2, `[${(performance.now() / 1e3).toFixed(1)} s] ${what}\n`)
}
