/** Optimization profiles from the two knobs: named batch sizes, each by every token length. */
import { EmbedError } from '../../errors.ts'
import type { Profile } from './plan.ts'

type BatchProfile = Pick<Profile, 'name' | 'minBatch' | 'optBatch' | 'maxBatch'>

/** @param profiles as in the knob: 'low_latency=1/1/2,balanced=2/4/8'
 * @param profileTokens as in the knob: '64,512'; lengths above `maxTokens` become that one
 * @returns name by name, lengths ascending; a length reaches down to the one below it
 * @throws {EmbedError} CONFIG_INVALID */
export function toProfiles(profiles: string, profileTokens: string, maxTokens: number): Profile[] {
  const lengths = parseTokens(profileTokens, maxTokens)
  return parseBatches(profiles).flatMap((batches) =>
    lengths.map((tokens, i) => ({
      ...batches,
      minTokens: (lengths[i - 1] ?? 0) + 1,
      optTokens: tokens,
      maxTokens: tokens,
    })),
  )
}

/** 'low_latency 1/1/2 x 1..512' */
export function describeProfile(profile: Profile): string {
  const { name, minBatch, optBatch, maxBatch, minTokens, maxTokens } = profile
  return `${name} ${minBatch}/${optBatch}/${maxBatch} x ${minTokens}..${maxTokens}`
}

function parseBatches(text: string): BatchProfile[] {
  const parsed = text.split(',').map((part) => {
    const match = /^\s*(\w+)=(\d+)\/(\d+)\/(\d+)\s*$/.exec(part)
    if (match === null) throw invalid('profiles', part, 'write name=min/opt/max, e.g. balanced=2/4/8')
    const [minBatch, optBatch, maxBatch] = match.slice(2).map(Number) as [number, number, number]
    if (minBatch < 1 || minBatch > optBatch || optBatch > maxBatch) {
      throw invalid('profiles', part, 'min is at least 1, opt at least min, max at least opt')
    }
    return { name: match[1]!, minBatch, optBatch, maxBatch }
  })
  const names = parsed.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw invalid('profiles', text, `the name ${twice} stands there twice`)
  return parsed
}

function parseTokens(text: string, maxTokens: number): number[] {
  const lengths = text.split(',').map((part) => {
    if (!/^\s*[1-9]\d*\s*$/.test(part)) {
      throw invalid('profileTokens', part, 'write token lengths of at least 1, e.g. 128,512')
    }
    return Math.min(Number(part), maxTokens)
  })
  return [...new Set(lengths)].sort((a, b) => a - b)
}

function invalid(knob: string, part: string, rule: string): EmbedError {
  return new EmbedError('CONFIG_INVALID', { reason: `${knob} holds '${part.trim()}'; ${rule}` })
}
