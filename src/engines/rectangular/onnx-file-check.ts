import { open, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { EmbedError, toReason } from '../../errors.ts'

/** Looks whether a file can be an ONNX model, before a runtime guesses at its format aloud.
 * @returns bytes of the file and of the weights that lie beside it
 * @throws {EmbedError} MODEL_FILE_MISSING, MODEL_FILE_CORRUPT */
export async function checkOnnxFile(path: string): Promise<number> {
  const file = await open(path).catch((error: unknown) => {
    throw new EmbedError(
      'MODEL_FILE_MISSING',
      { folder: dirname(path), file: basename(path), fix: `it cannot be opened: ${toReason(error)}` },
      { cause: error },
    )
  })
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, 0)
    // ModelProto begins with field 1 (ir_version), a varint: tag 0x08 in every writer's output.
    if (bytesRead === 0 || buffer[0] !== 0x08) {
      throw new EmbedError('MODEL_FILE_CORRUPT', { file: path, reason: 'it is not an ONNX model' })
    }
    const external = await Promise.all([`${path}_data`, `${path}.data`].map(sizeOrZero))
    return (await file.stat()).size + external.reduce((sum, bytes) => sum + bytes, 0)
  } finally {
    await file.close()
  }
}

async function sizeOrZero(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  )
}
