/** Each target beside what is physically possible. */
import {
  type LimitFacts,
  type Reach,
  type SpeedOfLight,
  computeSpeedOfLight,
  toReach,
} from '../limits/speed-of-light.ts'
import { type Target, formatMetric, formatWanted } from './targets.ts'

/** The best value that this machine could give; undefined where physics says nothing. */
export function limitOf({ metric, clients }: Target, light: SpeedOfLight): number | undefined {
  if (metric === 'textsPerSecond') return clients === 1 ? light.textsPerSecondAlone : light.textsPerSecond
  if (metric === 'gpuBytes') return light.isGpu ? light.weightBytes : undefined
  return metric === 'rssBytes' || metric === 'worstCosine' ? undefined : light[metric]
}

export function reachOf(target: Target, light: SpeedOfLight): Reach | undefined {
  const limit = limitOf(target, light)
  if (limit === undefined) return undefined
  const shares = [
    target.atLeast === undefined ? 0 : target.atLeast / limit,
    target.atMost === undefined ? 0 : limit / target.atMost,
  ]
  // Weights are there or not: memory has no half speed.
  if (target.metric === 'gpuBytes') return Math.max(...shares) > 1 ? 'impossible' : 'reachable'
  return toReach(Math.max(...shares))
}

/** How much of the best a measured value is: 1 is all of it. */
export function shareOfLimit(target: Target, measured: number, light: SpeedOfLight): number | undefined {
  const limit = limitOf(target, light)
  if (limit === undefined) return undefined
  return target.metric === 'textsPerSecond' ? measured / limit : limit / measured
}

/** For the terminal, before the first experiment. */
export function formatReach(
  limits: LimitFacts | { readonly missing: string },
  targets: readonly Target[],
): string {
  const light = 'missing' in limits ? undefined : computeSpeedOfLight(limits)
  if (light === undefined) {
    return `the best possible was not measured: ${'missing' in limits ? limits.missing : 'no peak of this device is known'}`
  }
  return targets
    .flatMap((target) => {
      const limit = limitOf(target, light)
      if (limit === undefined) return []
      const best = `the best possible at ${light.precision} is ${formatMetric(target.metric, limit)}`
      return [`${reachOf(target, light)!.padEnd(12)} ${target.name} ${formatWanted(target)}: ${best}`]
    })
    .join('\n')
}
