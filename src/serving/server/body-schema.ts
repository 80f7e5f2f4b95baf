/** Request bodies: one schema for the validation, the types and the OpenAPI page. */
import { type Static, type TSchema, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { EmbedError } from '../../errors.ts'
import type { EmbeddingInput } from '../pipeline/embedding-pipeline.ts'

/** Clients send null for what they leave open. `x-expects` is what a refusal tells of the field. */
export const optional = <Schema extends TSchema>(schema: Schema, expects: string) =>
  Type.Optional(Type.Union([schema, Type.Null()], { 'x-expects': expects }))

const tokenIds = Type.Array(Type.Integer())
export const inputsSchema = Type.Union(
  [Type.String(), tokenIds, Type.Array(Type.Union([Type.String(), tokenIds]))],
  { 'x-expects': 'a text, a list of texts, a list of token ids or a list of lists of token ids' },
)

/** Fields that mean the same wherever a dialect has them. */
export const sharedFields = {
  truncate: optional(Type.Boolean(), 'true to cut texts that are too long, false to refuse them'),
  truncation_direction: optional(
    Type.Enum(['Right', 'Left', 'right', 'left']),
    "'right' to drop the end of a long text, 'left' to drop its beginning",
  ),
  prompt_name: optional(Type.String(), "the name of one of the model's prompts"),
  instruction: optional(
    Type.String({ minLength: 1 }),
    "a text: the task, for models whose prompt is 'Instruct: {task}\\nQuery:'",
  ),
  normalize: optional(Type.Boolean(), 'true or false'),
  dimensions: optional(Type.Integer(), 'a whole number: the length of the vectors'),
}

/** One text or one list of token ids becomes a list of one. */
export function toInputList(inputs: Static<typeof inputsSchema>): readonly EmbeddingInput[] {
  if (typeof inputs === 'string') return [inputs]
  return inputs.length > 0 && typeof inputs[0] === 'number'
    ? [inputs as number[]]
    : (inputs as EmbeddingInput[])
}

/** Fastify's validator compiler: checks a body and names the field, the value and what it takes. */
export function compileBodyValidator({
  schema,
}: {
  schema: unknown
}): (body: unknown) => { value: unknown } | { error: Error } {
  const objectSchema = schema as {
    properties: Record<string, Record<string, unknown>>
    required?: readonly string[]
  }
  const validator = Compile(schema as TSchema)
  return (body) => {
    if (validator.Check(body)) return { value: body }
    return {
      error: new EmbedError('INVALID_REQUEST', {
        // The errors of ten million nulls would take seconds and gigabytes.
        reason: describe(objectSchema, body, validator.Errors(cutLists(body, 3))),
      }),
    }
  }
}

function describe(
  schema: { properties: Record<string, Record<string, unknown>>; required?: readonly string[] },
  body: unknown,
  errors: Iterable<{ instancePath: string; message: string }>,
): string {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    return `the body must be a JSON object, it is ${show(body)}`
  }
  const missing = schema.required?.find((name) => !(name in body))
  if (missing !== undefined) return `'${missing}' is missing; give ${expected(schema.properties[missing])}`
  // Every alternative of a field reports what it dislikes. The value that all of them refuse is the one that is wrong:
  // the deepest place, and among equals the one named most often.
  const counts = new Map<string, number>()
  for (const { instancePath } of errors) counts.set(instancePath, (counts.get(instancePath) ?? 0) + 1)
  const [path = ''] = [...counts.keys()].toSorted(
    (a, b) => depth(b) - depth(a) || counts.get(b)! - counts.get(a)!,
  )
  if (path === '') {
    const long =
      Object.entries(body).find(([, value]) => Array.isArray(value))?.[0] ?? schema.required?.[0] ?? ''
    return `'${long}' holds a value of the wrong type after its first ${maxCheckedItems}; '${long}' takes ${expected(schema.properties[long])}`
  }
  const [field = '', ...rest] = path.slice(1).split('/')
  const value = [field, ...rest].reduce<unknown>(
    (at, key) => (at as Record<string, unknown> | undefined)?.[key],
    body,
  )
  const place = field + rest.map((key) => `[${key}]`).join('')
  return `'${place}' is ${show(value)}; '${field}' takes ${expected(schema.properties[field])}`
}

const maxCheckedItems = 100

/** The beginnings of lists that may be very long; what lies deeper than any field takes becomes an empty object. */
function cutLists(value: unknown, levels: number): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (levels === 0) return {}
  if (Array.isArray(value)) return value.slice(0, maxCheckedItems).map((item) => cutLists(item, levels - 1))
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, cutLists(item, levels - 1)]))
}

function expected(schema: Record<string, unknown> | undefined): string {
  const text = schema?.['x-expects'] ?? schema?.['description'] ?? schema?.['type']
  return typeof text === 'string' ? text : 'another value'
}

/** A value as it was sent, never its 30 MB or its ten thousand levels: those have no room in a message. */
function show(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? '[]' : `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) {
    const [key] = Object.keys(value)
    return key === undefined ? '{}' : `an object with ${show(key)}`
  }
  const text = JSON.stringify(typeof value === 'string' ? value.slice(0, 60) : value) ?? 'undefined'
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

function depth(path: string): number {
  return path.split('/').length
}
