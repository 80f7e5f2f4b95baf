/** report.html in a real browser. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { renderHtml } from '../../src/tuning/tuner/render-report.ts'
import { buildReport } from '../../src/tuning/tuner/report.ts'
import { defaultTargets } from '../../src/tuning/tuner/targets.ts'
import { makeFakeTuning } from '../fixtures/fake-tuning.ts'
import { countPixels, readPng } from '../fixtures/read-png.ts'

const browser = ['chromium', 'chromium-browser', 'google-chrome']
  .flatMap((name) => (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, name)))
  .find((path) => existsSync(path))

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'report-page-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** @returns what the browser said: its own words, and the page's console */
function screenshot(page: string, png: string): Promise<string> {
  const flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--hide-scrollbars',
    '--enable-logging=stderr',
    '--force-device-scale-factor=1',
    '--window-size=1200,3600',
    `--user-data-dir=${join(folder, 'profile')}`,
    `--screenshot=${png}`,
  ]
  return new Promise((resolve, reject) => {
    execFile(browser!, [...flags, pathToFileURL(page).href], { timeout: 60_000 }, (error, _out, stderr) =>
      error === null ? resolve(stderr) : reject(error),
    )
  })
}

describe.skipIf(browser === undefined)('report.html in Chromium (skipped where there is none)', () => {
  it('draws its plots and says nothing on the console', async () => {
    const page = join(folder, 'report.html')
    await writeFile(page, renderHtml('Tuning', buildReport(await makeFakeTuning(), defaultTargets)))
    const png = join(folder, 'report.png')
    expect(await screenshot(page, png)).not.toMatch(/CONSOLE/)
    const pixels = readPng(await readFile(png))
    expect(pixels.width).toBe(1200)
    // Bars and curve of the winner (#2f6fb3), of what was before (#b9c4d0), and PASS in its own colour (#176b2c).
    expect(countPixels(pixels, [0x2f, 0x6f, 0xb3])).toBeGreaterThan(20_000)
    expect(countPixels(pixels, [0xb9, 0xc4, 0xd0])).toBeGreaterThan(5_000)
    expect(countPixels(pixels, [0x17, 0x6b, 0x2c])).toBeGreaterThan(20)
  }, 90_000)

  it('would show an error: a broken page is noticed', async () => {
    const page = join(folder, 'broken.html')
    await writeFile(page, '<!doctype html><script>console.error("broken")</script>')
    const png = join(folder, 'broken.png')
    expect(await screenshot(page, png)).toMatch(/CONSOLE.*broken/)
    expect(countPixels(readPng(await readFile(png)), [0x2f, 0x6f, 0xb3])).toBe(0)
  }, 90_000)
})
