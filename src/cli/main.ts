/** The program: the only reader of argv and of the environment, the only place that ends the process. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { findNearestName } from '../config/nearest-name.ts'
import { EmbedError, type ErrorCode, toReason } from '../errors.ts'
import { type Command, parseCommandLine } from './command.ts'
import { hideOtherDevices } from './visible-device.ts'
import { formatCommandHelp, formatProgramHelp } from './help.ts'

/** Loaded when asked for: an error message does not wait for an HTTP server's modules. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serveCommand,
  embed: async () => (await import('./embed.ts')).embedCommand,
  pull: async () => (await import('./pull.ts')).pullCommand,
  'pull-runtime': async () => (await import('./pull-runtime.ts')).pullRuntimeCommand,
  export: async () => (await import('./export.ts')).exportCommand,
  build: async () => (await import('./build.ts')).buildCommand,
  'verify-precision': async () => (await import('./verify-precision.ts')).verifyPrecisionCommand,
  engines: async () => (await import('./engines.ts')).enginesCommand,
  bench: async () => (await import('./bench.ts')).benchCommand,
  quality: async () => (await import('./quality.ts')).qualityCommand,
  e2e: async () => (await import('./e2e.ts')).e2eCommand,
  profile: async () => (await import('./profile.ts')).profileCommand,
  tune: async () => (await import('./tune.ts')).tuneCommand,
  verify: async () => (await import('./verify.ts')).verifyCommand,
  rollback: async () => (await import('./rollback.ts')).rollbackCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
}

/** Where it is not 1: 2 for what the caller gave, 3 for accepted requests that were not answered. */
const exitCodes: Partial<Record<ErrorCode, number>> = { USAGE: 2, CONFIG_INVALID: 2, DRAIN_TIMEOUT: 3 }

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args
  const version = readVersion()
  if (name === undefined || ['help', '--help', '-h'].includes(name)) {
    const all = await Promise.all(Object.values(commands).map((load) => load()))
    process.stdout.write(formatProgramHelp(all, version))
    return name === undefined ? 2 : 0
  }
  if (['version', '--version', '-v'].includes(name)) {
    process.stdout.write(`${version}\n`)
    return 0
  }
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined) {
    const nearest = findNearestName(name, Object.keys(commands))
    const hint = nearest === undefined ? "'akidb-embedding help' lists all" : `did you mean '${nearest}'?`
    throw new EmbedError('USAGE', { reason: `unknown command '${name}'; ${hint}` })
  }
  const command = await load()
  const ownArgs = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest
  if (ownArgs.includes('--help') || ownArgs.includes('-h')) {
    process.stdout.write(formatCommandHelp(command))
    return 0
  }
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // A second signal means: now. 128 + the signal's number, as a shell tells it.
      if (stop.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143)
      stop.abort()
    })
  }
  const environment = { ...process.env }
  const parse = () => {
    const parsed = parseCommandLine(command, rest, environment)
    Object.assign(process.env, hideOtherDevices(parsed.config.deviceId, environment))
    // The first of those that are shown now.
    return { ...parsed, config: Object.freeze({ ...parsed.config, deviceId: 0 }) }
  }
  return command.run({
    ...parse(),
    reloadConfig: () => parse().config,
    environment: process.env,
    home: homedir(),
    signal: stop.signal,
  })
}

function readVersion(): string {
  const path = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    const isKnown = error instanceof EmbedError
    process.stderr.write(isKnown ? `error ${error.code}: ${error.message}\n` : `error: ${toReason(error)}\n`)
    if (!isKnown && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    process.exit(isKnown ? (exitCodes[error.code as ErrorCode] ?? 1) : 1)
  },
)
