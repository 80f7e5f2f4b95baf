/** How a command of the program is described, and its flags read. */
import { parseArgs } from 'node:util'
import { type ConfigValues, loadConfig, readConfigFile } from '../config/load.ts'
import { findNearestName } from '../config/nearest-name.ts'
import { type Config, type ConfigKey, knobs } from '../config/schema.ts'
import { EmbedError } from '../errors.ts'
import { readTunedFile } from '../tuning/tuner/tuned-config.ts'

/** A flag that belongs to one command and is no part of the configuration. */
export interface CommandFlag {
  readonly type: 'string' | 'boolean'
  readonly description: string
  readonly placeholder?: string
  /** All its values count, not the last one: they are in `lists`. */
  readonly isRepeatable?: true
}

export interface CommandInput {
  readonly config: Config
  /** Reads file, environment and flags again. @throws as the first time */
  readonly reloadConfig: () => Config
  readonly positionals: readonly string[]
  /** Values of the command's own flags, by name. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>
  /** Values of repeatable flags, in order, by name. */
  readonly lists: Readonly<Record<string, readonly string[] | undefined>>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly home: string
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal
}

export interface Command {
  readonly name: string
  readonly summary: string
  readonly usage: string
  /** Lines under the usage: examples, formats. */
  readonly details?: readonly string[]
  /** Knobs of the configuration that its help lists; all are accepted. */
  readonly knobs: readonly ConfigKey[]
  readonly flags: Readonly<Record<string, CommandFlag>>
  /** @returns the exit code */
  readonly run: (input: CommandInput) => Promise<number>
}

/** Flags, positionals and the configuration that they, the environment and --config give together.
 * @throws {EmbedError} USAGE, CONFIG_INVALID, FILE_UNREADABLE */
export function parseCommandLine(
  command: Command,
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Pick<CommandInput, 'config' | 'positionals' | 'flags' | 'lists'> {
  const knobByFlag = new Map(knobs.map((knob) => [knob.flag.slice(2), knob]))
  const types = new Map<string, 'string' | 'boolean'>([
    ...[...knobByFlag].map(([name, knob]): [string, 'string' | 'boolean'] => [
      name,
      knob.type === 'boolean' ? 'boolean' : 'string',
    ]),
    ...Object.entries(command.flags).map(([name, flag]): [string, 'string' | 'boolean'] => [name, flag.type]),
    ['config', 'string'],
  ])
  const { tokens, positionals } = parseArgs({
    args: [...args],
    options: Object.fromEntries([...types].map(([name, type]) => [name, { type }])),
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  const configFlags: Record<string, unknown> = {}
  const flags: Record<string, string | boolean> = {}
  const lists: Record<string, string[]> = {}
  let configPath = environment['AKIDB_CONFIG']
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const negated = token.name.startsWith('no-') && types.get(token.name.slice(3)) === 'boolean'
    const name = negated ? token.name.slice(3) : token.name
    const type = types.get(name)
    if (type === undefined) throw unknownFlag(token.rawName, [...types.keys()])
    if (type === 'string' && (token.value === undefined || token.value === '')) {
      throw new EmbedError('USAGE', {
        reason: `${token.rawName} needs a value; see '${command.name} --help'`,
      })
    }
    const value = type === 'boolean' ? (token.value ?? !negated) : token.value!
    const knob = knobByFlag.get(name)
    if (name === 'config') configPath = String(value)
    else if (command.flags[name]?.isRepeatable === true) (lists[name] ??= []).push(String(value))
    else if (knob === undefined) flags[name] = value
    else configFlags[knob.key] = value
  }
  const file = configPath === undefined || configPath === '' ? {} : { file: readConfigFile(configPath) }
  const tuned = flags['tuned'] === undefined ? undefined : readTuned(String(flags['tuned']))
  const config = loadConfig({ tuned, ...file, environment, flags: configFlags })
  return { config, positionals, flags, lists }
}

function readTuned(path: string): { path: string; values: ConfigValues } {
  return { path, values: readTunedFile(path).settings }
}

function unknownFlag(rawName: string, known: readonly string[]): EmbedError {
  const nearest = findNearestName(rawName.replace(/^-+/, ''), known)
  const hint = nearest === undefined ? '--help lists all' : `did you mean '--${nearest}'?`
  return new EmbedError('USAGE', { reason: `unknown flag '${rawName}'; ${hint}` })
}
