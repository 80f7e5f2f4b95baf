import { type Config, type ConfigKey, knobs } from './schema.ts'

/** The configuration that a running server can go over to: `next`, but what needs a restart stays as it is.
 * @returns the keys that differ and were kept */
export function keepFixed(current: Config, next: Config): { config: Config; kept: ConfigKey[] } {
  const kept = knobs
    .filter(({ key, needsRestart }) => needsRestart === true && current[key] !== next[key])
    .map(({ key }) => key)
  // Files may change, HTTP does not become HTTPS.
  if ((current.tlsCert === undefined) !== (next.tlsCert === undefined)) kept.push('tlsCert', 'tlsKey')
  const config: Record<string, unknown> = { ...next }
  for (const key of kept) {
    if (current[key] === undefined) delete config[key]
    else config[key] = current[key]
  }
  return { config: Object.freeze(config as Config), kept }
}
