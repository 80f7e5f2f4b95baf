#!/usr/bin/env node
/** The program: the only reader of argv and of the environment, the only place that ends the process. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { findNearestName } from '../config/nearest-name.ts'
import { EmbedError, toReason } from '../errors.ts'
import { type Command, parseCommandLine } from './command.ts'
import { formatCommandHelp, formatProgramHelp } from './help.ts'

/** Loaded when asked for: an error message does not wait for an HTTP server's modules. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serveCommand,
  embed: async () => (await import('./embed.ts')).embedCommand,
  pull: async () => (await import('./pull.ts')).pullCommand,
  'pull-runtime': async () => (await import('./pull-runtime.ts')).pullRuntimeCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
}

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
      // A second signal means: now.
      if (stop.signal.aborted) process.exit(130)
      stop.abort()
    })
  }
  const parsed = parseCommandLine(command, rest, process.env)
  return command.run({ ...parsed, environment: process.env, home: homedir(), signal: stop.signal })
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
    process.exit(isKnown && (error.code === 'USAGE' || error.code === 'CONFIG_INVALID') ? 2 : 1)
  },
)
