import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { createProgressBar, createProgressLine } from './progress-bar.ts'

function createStream(isTTY: boolean): {
  stream: PassThrough & { isTTY: boolean; columns: number }
  text: () => string
} {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 120 })
  const chunks: string[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()))
  return { stream, text: () => chunks.join('') }
}

const file = 'model.safetensors'
const totalBytes = 100_000_000

test('without a terminal: a line at the start, then every 5 s, with rate and remaining time', () => {
  let timeMs = 0
  const { stream, text } = createStream(false)
  const bar = createProgressBar(stream, () => timeMs)
  bar.update({ file, phase: 'connect', receivedBytes: 0 })
  for (let second = 0; second <= 11; second++) {
    timeMs = second * 1000
    bar.update({ file, phase: 'download', receivedBytes: second * 5_000_000, totalBytes })
  }
  expect(text()).toBe(
    [
      'model.safetensors: connecting',
      'model.safetensors: 25 % of 100.0 MB, 5.0 MB/s, 15 s left',
      'model.safetensors: 50 % of 100.0 MB, 5.0 MB/s, 10 s left',
      '',
    ].join('\n'),
  )
})

test('each file is measured for itself; an unknown total has no percentage', () => {
  let timeMs = 0
  const { stream, text } = createStream(false)
  const bar = createProgressBar(stream, () => timeMs)
  bar.update({ file: 'first', phase: 'download', receivedBytes: 0, totalBytes })
  timeMs = 1000
  bar.update({ file: 'first', phase: 'download', receivedBytes: 90_000_000, totalBytes })
  timeMs = 6000
  bar.update({ file: 'second', phase: 'download', receivedBytes: 95_000_000 })
  timeMs = 12_000
  bar.update({ file: 'second', phase: 'download', receivedBytes: 101_000_000 })
  expect(text().split('\n').slice(1)).toEqual(['second: 95.0 MB, 0.0 MB/s', 'second: 101.0 MB, 1.0 MB/s', ''])
})

test('remaining time beyond a minute and beyond an hour', () => {
  let timeMs = 0
  const { stream, text } = createStream(false)
  const bar = createProgressBar(stream, () => timeMs)
  bar.update({ file, phase: 'download', receivedBytes: 0, totalBytes: 4_005_000_000 })
  timeMs = 5000
  bar.update({ file, phase: 'download', receivedBytes: 5_000_000, totalBytes: 4_005_000_000 })
  timeMs = 10_000
  bar.update({ file: 'b', phase: 'download', receivedBytes: 0, totalBytes: 100_000_000 })
  timeMs = 15_000
  bar.update({ file: 'b', phase: 'download', receivedBytes: 5_000_000, totalBytes: 100_000_000 })
  expect(text()).toContain('1 h 6 min left')
  expect(text()).toContain('1 min 35 s left')
})

test('on a terminal: one line with a bar, cleared at the end', () => {
  const { stream, text } = createStream(true)
  const bar = createProgressBar(stream)
  bar.update({ file, phase: 'download', receivedBytes: 50_000_000, totalBytes })
  bar.stop()
  bar.stop()
  const shown = stripVTControlCharacters(text())
  expect(shown).toContain('[============            ] model.safetensors: 50 % of 100.0 MB')
  expect(shown).not.toContain('\n')
  // The last words erase the line (CSI 0K after going to column 0).
  expect(text().lastIndexOf('\u001B[0K')).toBeGreaterThan(text().lastIndexOf('50 %'))
})

test('on a terminal a text is shown at once and replaced', async () => {
  const { stream, text } = createStream(true)
  const line = createProgressLine(stream)
  line.update('one')
  expect(text()).toContain('one')
  await sleep(250)
  line.update('two')
  expect(text()).toContain('two')
  line.stop()
})

test('stopping what never showed anything writes nothing', () => {
  const { stream, text } = createStream(true)
  createProgressBar(stream).stop()
  expect(text()).toBe('')
})
