/** Joins the sources of the configuration: defaults < tuned < file < environment < flags. */
import { readFileSync } from 'node:fs'
import { Compile } from 'typebox/compile'
import { Default } from 'typebox/value'
import { EmbedError, toReason } from '../errors.ts'
import { findNearestName } from './nearest-name.ts'
import { type Config, type Knob, configSchema, knobs } from './schema.ts'

const validator = Compile(configSchema)
const knobByKey = new Map(knobs.map((knob) => [knob.key as string, knob]))

export type ConfigValues = Readonly<Record<string, unknown>>

export interface ConfigSources {
  /** What tuning found, its path for messages. */
  readonly tuned?: { readonly path: string; readonly values: ConfigValues } | undefined
  /** Values of a configuration file, its path for messages. */
  readonly file?: { readonly path: string; readonly values: ConfigValues }
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** Values by key, as the command line gave them. */
  readonly flags?: ConfigValues
}

/** A complete, frozen configuration.
 * @throws {EmbedError} CONFIG_INVALID with the name, the value, where it came from and the nearest known name */
export function loadConfig(sources: ConfigSources = {}): Config {
  const merged: Record<string, unknown> = {}
  const origin: Record<string, string> = {}
  const take = (key: string, value: unknown, from: string): void => {
    const knob = knobByKey.get(key)
    if (knob === undefined) {
      const nearest = findNearestName(key, [...knobByKey.keys()])
      const hint = nearest === undefined ? 'docs/configuration.md lists all' : `did you mean '${nearest}'?`
      throw new EmbedError('CONFIG_INVALID', { reason: `${from} has the unknown key '${key}'; ${hint}` })
    }
    merged[key] = typeof value === 'string' ? parseValue(knob, value, from) : value
    origin[key] = from
  }
  for (const source of [sources.tuned, sources.file]) {
    for (const [key, value] of Object.entries(source?.values ?? {})) take(key, value, source!.path)
  }
  for (const knob of knobs) {
    const value = sources.environment?.[knob.variable]
    if (value !== undefined && value !== '') take(knob.key, value, knob.variable)
  }
  for (const [key, value] of Object.entries(sources.flags ?? {})) {
    if (value !== undefined) take(key, value, knobByKey.get(key)?.flag ?? `--${key}`)
  }

  const complete = Default(configSchema, merged)
  if (!validator.Check(complete)) {
    const [first] = validator.Errors(complete)
    const key = first!.instancePath.slice(1)
    throw new EmbedError('CONFIG_INVALID', {
      reason: describe(knobByKey.get(key)!, merged[key], origin[key]!),
    })
  }
  return Object.freeze(complete)
}

/** @throws {EmbedError} FILE_UNREADABLE, CONFIG_INVALID */
export function readConfigFile(path: string): { path: string; values: ConfigValues } {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  }
  let values: unknown
  try {
    values = JSON.parse(text)
  } catch (cause) {
    throw new EmbedError(
      'CONFIG_INVALID',
      { reason: `${path} is not valid JSON: ${toReason(cause)}` },
      { cause },
    )
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw new EmbedError('CONFIG_INVALID', { reason: `${path} must hold one JSON object` })
  }
  return { path, values: values as ConfigValues }
}

/** What may be printed: secrets replaced. */
export function toPrintableConfig(config: Config): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key, knobByKey.get(key)?.secret === true ? '***' : value]),
  )
}

function parseValue(knob: Knob, text: string, from: string): unknown {
  switch (knob.type) {
    case 'boolean':
      if (['true', '1', 'yes'].includes(text)) return true
      if (['false', '0', 'no'].includes(text)) return false
      break
    case 'integer':
    case 'number':
      if (text.trim() !== '' && Number.isFinite(Number(text))) return Number(text)
      break
    case 'string':
      return text
  }
  throw new EmbedError('CONFIG_INVALID', { reason: describe(knob, text, from) })
}

function describe(knob: Knob, value: unknown, from: string): string {
  const shown = knob.secret === true ? '***' : JSON.stringify(value)
  if (knob.choices !== undefined) {
    const nearest = typeof value === 'string' ? findNearestName(value, knob.choices) : undefined
    const hint = nearest === undefined ? '' : `; did you mean '${nearest}'?`
    return `${from} is ${shown}; it takes ${knob.choices.join(', ')}${hint}`
  }
  const range =
    knob.minimum === undefined
      ? ''
      : knob.maximum === undefined
        ? ` of at least ${knob.minimum}`
        : ` from ${knob.minimum} to ${knob.maximum}`
  const kind = {
    boolean: 'true or false',
    integer: 'a whole number',
    number: 'a number',
    string: 'a text of at least one character',
  }
  return `${from} is ${shown}; it takes ${kind[knob.type]}${range}`
}
