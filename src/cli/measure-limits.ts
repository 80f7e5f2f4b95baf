/** What the bounds of a model on this machine are computed from: its shape, the texts, and the peak of what runs it. */
import { toReason } from '../errors.ts'
import { loadCublaslt } from '../hardware/ffi/cublaslt.ts'
import { openGpu } from '../hardware/gpu/context.ts'
import { readCpu } from '../hardware/machine/cpu.ts'
import { needCudaLibrary, openCudaDriver } from '../hardware/machine/cuda-driver.ts'
import { measureGpuPeak } from '../hardware/machine/gpu-peak.ts'
import { measureMemoryPeak } from '../hardware/machine/memory-peak.ts'
import { openvinoRuntimeFolders } from '../model/pull/openvino-runtime.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createTokenizer } from '../serving/tokenizer/worker-tokenizer.ts'
import { measureCpuPeak } from '../tuning/limits/cpu-peak.ts'
import type { LimitFacts, MachinePeak } from '../tuning/limits/speed-of-light.ts'
import { makeMixedWorkload, createTokenCounter } from '../tuning/measure/workload.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'

/** Takes about five seconds. A peak that cannot be measured leaves the bounds out, with the reason.
 * @param onGpu measure the GPU, else the CPU */
export async function measureLimits(
  input: CommandInput,
  spec: ModelSpec,
  onGpu: boolean,
): Promise<LimitFacts | { readonly missing: string }> {
  try {
    const { family, hiddenSize, layerCount, headCount, keyValueHeadCount, headSize, intermediateSize } = spec
    return {
      shape: { family, hiddenSize, layerCount, headCount, keyValueHeadCount, headSize, intermediateSize },
      textTokens: await countTextTokens(spec),
      peak: onGpu ? await measureGpu(input) : await measureCpu(input),
    }
  } catch (error) {
    // The first line says what; the rest is a list of folders.
    return {
      missing: toReason(error)
        .split('\n')[0]!
        .replace(/; searched:$/, ''),
    }
  }
}

/** Of the texts that the tuner's clients send. */
async function countTextTokens(spec: ModelSpec): Promise<number[]> {
  const { maxTokens, files } = spec
  await using tokenizer = await createTokenizer({ tokenizerPath: files.tokenizer, workerCount: 0 })
  const { requests } = await makeMixedWorkload({
    countTokens: createTokenCounter(tokenizer, maxTokens),
  })
  return requests.map(({ tokens }) => tokens)
}

/** @throws {EmbedError} as findNativeLibraries and measureGpuPeak */
export async function measureGpu(input: CommandInput): Promise<MachinePeak> {
  const search = chooseCudaSearch(input)
  const { cuda, cudaMajor } = await openCudaDriver('tune', search)
  const cublaslt = needCudaLibrary('libcublasLt', { ...search, cudaMajor })
  // Freed before the first configuration starts: its context alone takes half a gigabyte of the GPU.
  using gpu = await openGpu(cuda)
  const peak = await measureGpuPeak(gpu, loadCublaslt(cublaslt.path))
  return { device: gpu.device.name, isGpu: true, ...peak, source: 'measured' }
}

async function measureCpu(input: CommandInput): Promise<MachinePeak> {
  const { model, usableCores: threads } = readCpu()
  const openvino = {
    explicitPath: input.config.openvinoLibrary,
    folders: openvinoRuntimeFolders(chooseCacheDir(input)),
  }
  return {
    device: `${model}, ${threads} threads`,
    isGpu: false,
    flopsByPrecision: await measureCpuPeak({ threads, openvino }),
    memoryBytesPerSecond: await measureMemoryPeak({ threads }),
    source: 'measured',
  }
}
