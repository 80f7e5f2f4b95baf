/** The GPU of `deviceId` as the only one that CUDA shows: TensorRT's threads take the first. */
import { EmbedError } from '../errors.ts'

/** To be called before CUDA is loaded. @returns variables to set
 * @throws {EmbedError} GPU_UNAVAILABLE when CUDA_VISIBLE_DEVICES names fewer */
export function hideOtherDevices(
  deviceId: number,
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  if (deviceId === 0) return {}
  const shown = environment['CUDA_VISIBLE_DEVICES']?.split(',').map((name) => name.trim())
  const device = shown === undefined ? String(deviceId) : shown[deviceId]
  if (device === undefined) {
    throw new EmbedError('GPU_UNAVAILABLE', {
      reason: `GPU ${deviceId} was asked for, CUDA_VISIBLE_DEVICES shows ${shown!.length}`,
      fix: 'give --device-id a smaller number, or show more',
    })
  }
  // CUDA counts the fastest first unless told to count as nvidia-smi does.
  return { CUDA_VISIBLE_DEVICES: device, CUDA_DEVICE_ORDER: environment['CUDA_DEVICE_ORDER'] ?? 'PCI_BUS_ID' }
}
