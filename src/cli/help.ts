/** --help, made from the commands and the one schema. */
import { type Knob, knobs } from '../config/schema.ts'
import type { Command } from './command.ts'

const nameWidth = 34

export function formatProgramHelp(commands: readonly Command[], version: string): string {
  const rows = commands.map((command) => `  ${command.name.padEnd(16)} ${command.summary}`)
  return [
    `akidb-embedding ${version}: text embeddings as fast as the machine allows`,
    '',
    'usage: akidb-embedding <command> [flags]',
    '',
    ...rows,
    '',
    "'akidb-embedding <command> --help' tells a command's flags. Flags win over environment variables,",
    'those over the file given with --config (JSON, keys as in docs/configuration.md).',
    '',
  ].join('\n')
}

export function formatCommandHelp(command: Command): string {
  const own = Object.entries(command.flags).map(([name, flag]) =>
    row(`--${name}${flag.type === 'string' ? ` <${flag.placeholder ?? 'text'}>` : ''}`, flag.description),
  )
  const listed = knobs.filter((knob) => command.knobs.includes(knob.key))
  return [
    `usage: akidb-embedding ${command.usage}`,
    '',
    command.summary,
    ...(command.details === undefined ? [] : ['', ...command.details]),
    '',
    ...(own.length === 0 ? [] : ['flags:', ...own, '']),
    'configuration (flag, environment variable, default):',
    ...listed.map((knob) => row(`${knob.flag}${formatValue(knob)}`, describe(knob))),
    row('--config <file>', 'JSON file with any of the above (AKIDB_CONFIG)'),
    '',
  ].join('\n')
}

function row(name: string, description: string): string {
  const start =
    name.length < nameWidth ? `  ${name.padEnd(nameWidth)}` : `  ${name}\n${' '.repeat(nameWidth + 2)}`
  return start + description
}

function formatValue(knob: Knob): string {
  if (knob.type === 'boolean') return ''
  if (knob.choices !== undefined) return ` <${knob.choices.join('|')}>`
  return ` <${knob.placeholder ?? knob.unit ?? (knob.type === 'string' ? 'text' : 'number')}>`
}

function describe(knob: Knob): string {
  const byDefault = knob.default === undefined || knob.default === false ? '' : `, ${String(knob.default)}`
  return `${knob.description} (${knob.variable}${byDefault})`
}
