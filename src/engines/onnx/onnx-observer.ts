/** An fp32 export with the output activation_amax, run by ONNX Runtime: what calibration reads. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { exportOnnx } from '../../model/onnx-export.ts'
import { amaxOutput } from '../../model/onnx/amax-output.ts'
import type { WriteProgress } from '../../model/onnx/model-writer.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { ActivationObserver } from '../calibration/calibrate.ts'
import { readPorts } from './onnx-ports.ts'
import { openOnnxRuntime } from './onnx-runtime.ts'

export interface OnnxObserverOptions {
  readonly spec: ModelSpec
  readonly threads: number
  /** An empty folder for the export, 4 bytes a weight; removed at the end. */
  readonly workFolder: string
  readonly libraryPath?: string | undefined
  readonly onProgress?: ((progress: WriteProgress) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/** @throws {EmbedError} as exportOnnx; ENGINE_UNAVAILABLE, LIBRARY_NOT_FOUND, ONNXRUNTIME_STATUS */
export async function createOnnxObserver(
  options: OnnxObserverOptions,
): Promise<ActivationObserver & AsyncDisposable> {
  const { spec, threads, workFolder, onProgress, signal } = options
  const runtime = openOnnxRuntime(options.libraryPath)
  const dispose = async () => {
    runtime[Symbol.dispose]()
    await rm(workFolder, { recursive: true, force: true })
  }
  try {
    await mkdir(workFolder, { recursive: true })
    const path = join(workFolder, 'model.onnx')
    const { linearLayers } = await exportOnnx(spec, path, { observe: true, onProgress, signal })
    const session = await runtime.createSession(path, threads)
    const { inputs } = readPorts(runtime.api, session, spec.hiddenSize)
    const output = { index: 1, name: amaxOutput, kind: 'pooled', dimensions: linearLayers.length } as const
    const runner = runtime.createRunner(session, { inputs, output }, spec.padTokenId)
    return {
      linearLayers,
      madeBy: `onnx ${runtime.api.GetVersionString()} fp32`,
      async observe(inputIds) {
        let amax: Float32Array | undefined
        const batch = { inputIds, cumulativeLengths: Int32Array.of(0, inputIds.length) }
        await runner.run(batch, { sequences: Int32Array.of(0), paddedLength: inputIds.length }, (values) => {
          amax = values.slice()
        })
        return amax!
      },
      [Symbol.asyncDispose]: dispose,
    }
  } catch (error) {
    await dispose()
    throw error
  }
}
