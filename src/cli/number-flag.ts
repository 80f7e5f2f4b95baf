import { EmbedError } from '../errors.ts'
import type { CommandInput } from './command.ts'

/** A flag that takes a number above 0. @throws {EmbedError} USAGE */
export function readNumberFlag(flags: CommandInput['flags'], name: string, byDefault: number): number {
  const text = flags[name]
  return text === undefined ? byDefault : parsePositiveNumber(name, String(text))
}

/** @throws {EmbedError} USAGE */
export function parsePositiveNumber(name: string, text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value) && value > 0) return value
  throw new EmbedError('USAGE', { reason: `--${name} has '${text}'; it takes a number above 0` })
}
