/** A side in a process of its own: what crashes there is a failed candidate here. */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { SideAnswer, SideRequest, SideSetup } from './side-protocol.ts'
import type { Settings, Side, StartSide } from './side.ts'
import type { WinnerProfile } from './winner-profile.ts'

export interface SideProcessOptions extends Omit<SideSetup, 'values'> {
  /** Model and what else every side has in common. */
  readonly shared: Settings
  /** A side that says nothing for so long is ended. Default 180 s: an export or a build takes its time. */
  readonly timeoutMs?: number
  /** The same while it starts, or is profiled from its start on. Default timeoutMs. */
  readonly startTimeoutMs?: number
  /** Aborted: every side ends at once, whatever it does. */
  readonly signal?: AbortSignal | undefined
  /** Internal: the script of the process. The default needs the built package. */
  readonly script?: string
}

const defaultTimeoutMs = 180_000
const builtScript = fileURLToPath(new URL('./side-worker.js', import.meta.url))

/** Sides whose every call runs in a child process, one at a time. */
export function createSideStarter(options: SideProcessOptions): StartSide {
  const { script, signal, timeoutMs, startTimeoutMs, toSetup } = complete(options)
  return async (settings) => {
    const child = startProcess(script, signal)
    try {
      const { info } = await ask(
        child,
        { kind: 'start', setup: toSetup(settings) },
        'started',
        startTimeoutMs,
      )
      return {
        info,
        measure: async ({ all } = { all: false }) =>
          (await ask(child, { kind: 'measure', all }, 'measured', timeoutMs)).slice,
        assess: async () => (await ask(child, { kind: 'assess' }, 'assessed', timeoutMs)).quality,
        [Symbol.asyncDispose]: () => stop(child),
      } satisfies Side
    } catch (error) {
      await stop(child)
      throw error
    }
  }
}

/** Profiles a configuration in a process of its own. */
export function createSideProfiler(
  options: SideProcessOptions,
): (settings: Settings) => Promise<WinnerProfile> {
  const { script, signal, startTimeoutMs, toSetup } = complete(options)
  return async (settings) => {
    const child = startProcess(script, signal)
    try {
      return (await ask(child, { kind: 'profile', setup: toSetup(settings) }, 'profiled', startTimeoutMs))
        .profile
    } finally {
      await stop(child)
    }
  }
}

function complete({
  shared,
  script = builtScript,
  signal,
  timeoutMs = defaultTimeoutMs,
  startTimeoutMs = timeoutMs,
  ...common
}: SideProcessOptions) {
  const toSetup = (settings: Settings): SideSetup => ({ ...common, values: { ...shared, ...settings } })
  return { script, signal, timeoutMs, startTimeoutMs, toSetup }
}

/** Its own group: Ctrl-C goes to the tuner, which ends its sides itself. */
function startProcess(script: string, signal: AbortSignal | undefined): ChildProcess {
  signal?.throwIfAborted()
  const child = fork(script, [], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], detached: true })
  // A build takes minutes, and a kernel that hangs takes for ever.
  const end = (): void => void child.kill('SIGKILL')
  signal?.addEventListener('abort', end, { once: true })
  child.once('exit', () => signal?.removeEventListener('abort', end))
  return child
}

function ask<Kind extends SideAnswer['kind']>(
  child: ChildProcess,
  request: SideRequest,
  kind: Kind,
  timeoutMs: number,
): Promise<Extract<SideAnswer, { kind: Kind }>> {
  return new Promise((resolve, reject) => {
    let lastWords = ''
    const listen = (chunk: Buffer): void => void (lastWords = (lastWords + String(chunk)).slice(-500))
    const settle = (act: () => void): void => {
      clearTimeout(timer)
      child.off('message', onMessage).off('exit', onExit)
      child.stderr?.off('data', listen)
      act()
    }
    const onMessage = (answer: SideAnswer): void =>
      settle(() => {
        if (answer.kind === kind) resolve(answer as Extract<SideAnswer, { kind: Kind }>)
        else reject(new Error(answer.kind === 'failed' ? answer.reason : `it answered '${answer.kind}'`))
      })
    const onExit = (code: number | null, signal: string | null): void =>
      settle(() => {
        const words = lastWords.trim() === '' ? '' : `: ${lastWords.trim()}`
        reject(new Error(`its process ended with ${signal ?? code}${words}`))
      })
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      settle(() => reject(new Error(`it said nothing for ${timeoutMs / 1000} s and was ended`)))
    }, timeoutMs)
    child.on('message', onMessage).on('exit', onExit)
    child.stderr?.on('data', listen)
    if (child.exitCode !== null || child.signalCode !== null) onExit(child.exitCode, child.signalCode)
    else child.send(request, (error) => error && settle(() => reject(error)))
  })
}

/** How long a side may take to free its engine. */
const stopMs = 5000

function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), stopMs)
    child.once('exit', () => {
      clearTimeout(timer)
      resolve()
    })
    if (child.connected)
      child.send({ kind: 'stop' } satisfies SideRequest, (error) => error && child.kill('SIGKILL'))
    else child.kill('SIGKILL')
  })
}
