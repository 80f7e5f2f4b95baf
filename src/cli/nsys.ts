/** Runs this very command under Nsight Systems and reads what it recorded. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbedError } from '../errors.ts'
import {
  nsysProfileArguments,
  nsysStatsArguments,
  type NsysTables,
  parseNsysStats,
} from '../tuning/profiler/nsys.ts'
import type { CommandInput } from './command.ts'

/** @returns what the command printed, and nsys' tables of the whole process, its start included
 * @throws {EmbedError} PROFILE_UNSUPPORTED, LIBRARY_NOT_FOUND without nsys, NSYS_FAILED, FILE_FORMAT */
export async function runUnderNsys({
  config,
  environment,
  signal,
}: CommandInput): Promise<{ readonly text: string; readonly tables: NsysTables }> {
  if (config.engine === 'onnx' || config.engine === 'openvino') {
    throw new EmbedError('PROFILE_UNSUPPORTED', {
      engine: config.engine,
      reason: 'nsys records what a GPU does, and this engine uses none',
      fix: 'leave --nsys out: its nodes are measured by the runtime itself',
    })
  }
  const folder = await mkdtemp(join(tmpdir(), 'akidb-nsys-'))
  try {
    const report = join(folder, 'report')
    const own = process.argv.slice(1).filter((argument) => argument !== '--nsys')
    const text = await runNsys(
      nsysProfileArguments(report, [process.execPath, ...own, '--no-kernels']),
      environment,
      signal,
    )
    const csv = await runNsys(nsysStatsArguments(`${report}.nsys-rep`), environment, signal)
    return { text, tables: parseNsysStats(csv) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** @returns its standard output; what it says besides goes on to the terminal */
function runNsys(
  args: readonly string[],
  environment: CommandInput['environment'],
  signal: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsys', args, { stdio: ['ignore', 'pipe', 'inherit'], env: environment, signal })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    child.on('error', (cause: NodeJS.ErrnoException) => {
      if (signal.aborted) reject(new EmbedError('REQUEST_CANCELLED', {}, { cause }))
      else if (cause.code === 'ENOENT') {
        const searched = (environment['PATH'] ?? '').split(':')
        const fix = 'install Nsight Systems (on a Jetson it comes with JetPack), or leave --nsys out'
        reject(new EmbedError('LIBRARY_NOT_FOUND', { library: 'nsys', searched, fix }, { cause }))
      } else reject(new EmbedError('NSYS_FAILED', { task: args[0]!, reason: cause.message }, { cause }))
    })
    child.on('close', (code) => {
      if (code === 0) resolve(text)
      else reject(new EmbedError('NSYS_FAILED', { task: args[0]!, reason: `it ended with ${code}` }))
    })
  })
}
