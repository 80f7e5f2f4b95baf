/** One run of bench, as it is kept and compared. */
import { readFile, writeFile } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { EmbedError, toReason } from '../../errors.ts'

const numberOrNull = Type.Union([Type.Number(), Type.Null()])
const roundSchema = Type.Object({
  requests: Type.Number(),
  p50Ms: Type.Number(),
  p95Ms: Type.Number(),
  p99Ms: Type.Number(),
  maxMs: Type.Number(),
  requestsPerSecond: Type.Number(),
  textsPerSecond: Type.Number(),
  tokensPerSecond: Type.Number(),
  errors: Type.Number(),
  firstError: Type.Optional(Type.String()),
  averageBatchSize: numberOrNull,
  paddingRatio: numberOrNull,
  cpuCores: numberOrNull,
  rssBytes: numberOrNull,
})

const recordSchema = Type.Object({
  version: Type.Literal(1),
  date: Type.String(),
  /** Of this package. */
  packageVersion: Type.String(),
  machine: Type.Object({
    cpu: Type.String(),
    usableCores: Type.Number(),
    cpuFeatures: Type.Array(Type.String()),
    node: Type.String(),
    platform: Type.String(),
  }),
  model: Type.String(),
  settings: Type.Object({ rounds: Type.Number(), roundMs: Type.Number(), warmupMs: Type.Number() }),
  /** Before the first round, and at the end of each. */
  samples: Type.Array(Type.Object({ loadAverage: Type.Number(), clockMhz: numberOrNull })),
  /** Why the figures are to be taken with care; empty for a quiet run. */
  noise: Type.Array(Type.String()),
  rows: Type.Array(
    Type.Object({
      target: Type.String(),
      /** e.g. '64 tokens, 4 clients' */
      scenario: Type.String(),
      rounds: Type.Array(roundSchema),
    }),
  ),
})

export type BenchRecord = Static<typeof recordSchema>
export type BenchRow = BenchRecord['rows'][number]
const validator = Compile(recordSchema)

/** @throws {EmbedError} FILE_UNREADABLE, FILE_FORMAT */
export async function loadBenchRecord(path: string): Promise<BenchRecord> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  if (validator.Check(value)) return value
  const [first] = validator.Errors(value)
  const reason = `it is no record of bench: ${first?.instancePath ?? ''} ${first?.message ?? 'no JSON'}`
  throw new EmbedError('FILE_FORMAT', { path, reason })
}

/** @throws {EmbedError} FILE_UNWRITABLE */
export async function saveBenchRecord(path: string, record: BenchRecord): Promise<void> {
  try {
    await writeFile(path, `${JSON.stringify(record)}\n`)
  } catch (cause) {
    const fix = 'give --save another path'
    throw new EmbedError('FILE_UNWRITABLE', { path, reason: toReason(cause), fix }, { cause })
  }
}
