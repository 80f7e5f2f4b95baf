import { expect, it } from 'vitest'
import { thrownBy } from '../../test/fakes/failure.ts'
import { hideOtherDevices } from './visible-device.ts'

it('leaves the first GPU as it is, and shows another one alone', () => {
  expect(hideOtherDevices(0, { CUDA_VISIBLE_DEVICES: '3' })).toEqual({})
  expect(hideOtherDevices(2, {})).toEqual({ CUDA_VISIBLE_DEVICES: '2', CUDA_DEVICE_ORDER: 'PCI_BUS_ID' })
  const shown = { CUDA_VISIBLE_DEVICES: '4, GPU-1a2b', CUDA_DEVICE_ORDER: 'FASTEST_FIRST' }
  expect(hideOtherDevices(1, shown)).toEqual({ ...shown, CUDA_VISIBLE_DEVICES: 'GPU-1a2b' })
  expect(thrownBy(() => hideOtherDevices(2, shown)).message).toContain(
    'GPU 2 was asked for, CUDA_VISIBLE_DEVICES shows 2',
  )
})
