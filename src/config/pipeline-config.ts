import { type Config, type ConfigKey, knobs } from './schema.ts'

/** What only the server reads, while it answers: a change of it needs no new pipeline. */
const serverKeys = [
  'strictModel',
  'servedModelName',
  'maxInputs',
  'truncation',
  'sendTimeoutMs',
  'apiKey',
  'apiKeysFile',
  'docsAccess',
  'metricsAccess',
  'tlsCert',
  'tlsKey',
  'shutdownDelayMs',
  'drainTimeoutMs',
] as const satisfies readonly ConfigKey[]

/** The rest: what a pipeline may be made from. */
export type PipelineConfig = Omit<Config, (typeof serverKeys)[number]>

/** Whether the same pipeline comes of both, as far as the configuration decides. */
export function makesSamePipeline(current: Config, next: Config): boolean {
  const isServerKey = (key: ConfigKey): boolean => (serverKeys as readonly ConfigKey[]).includes(key)
  return knobs.every(({ key }) => isServerKey(key) || current[key] === next[key])
}
