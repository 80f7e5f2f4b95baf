/** How a knob is declared: JSON Schema, and what flags, help and the tuner need beside it. */
import { Type } from 'typebox'

/** What a knob tells beyond JSON Schema. */
export interface KnobExtras {
  /** Unit of the value where its name does not end in one. */
  unit?: string
  /** Candidate values that the tuner may try. */
  tunable?: readonly (number | string | boolean)[]
  /** Kept out of printed configurations. */
  secret?: boolean
  /** Environment variable, where the field has a name for it already. */
  variable?: string
  /** A reload (SIGHUP) cannot change it. */
  needsRestart?: true
  /** Name of the value in --help. */
  placeholder?: string
}

export const string = (description: string, extras: KnobExtras & { default?: string } = {}) =>
  Type.String({ description, minLength: 1, ...extras })
export const integer = (
  description: string,
  extras: KnobExtras & { default?: number; minimum: number; maximum?: number },
) => Type.Integer({ description, ...extras })
export const flag = (description: string, extras: KnobExtras = {}) =>
  Type.Boolean({ description, default: false, ...extras })
export const choice = <const Values extends readonly string[]>(
  values: Values,
  description: string,
  extras: KnobExtras & { default: Values[number] },
) => Type.Unsafe<Values[number]>({ type: 'string', enum: values, description, ...extras })
