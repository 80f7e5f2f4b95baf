/** A folder for LD_LIBRARY_PATH with what a machine with an NVIDIA GPU has: driver and TensorRT 10.6, written in C. */
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { compileNative } from './native-library.ts'

export async function writeNvidiaLibraries(folder: string): Promise<void> {
  const nvinfer = compileNative('nvinfer', { TENSORRT_VERSION: 100_600 })
  await mkdir(folder)
  await copyFile(compileNative('cuda'), join(folder, 'libcuda.so.580.65.06'))
  await copyFile(nvinfer, join(folder, 'libnvinfer.so.10.6.0'))
  await copyFile(nvinfer, join(folder, 'libnvonnxparser.so.10.6.0'))
}
