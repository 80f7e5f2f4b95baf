/** Which optimization profile of which plan runs a rectangle, and what the rectangle is padded to for it. */
import type { Profile } from './plan.ts'

/** A shape that an engine runs: [rows, tokens] in one of its profiles. */
export interface EngineShape {
  /** Place of the plan among the engine's. */
  readonly plan: number
  readonly profile: number
  readonly rows: number
  readonly tokens: number
  /** One number for all four. */
  readonly key: number
}

export type ProfileLimits = Omit<Profile, 'name'>

/** Shapes repeat, so that graphs can be used again; 16 pads texts of 20 tokens by half. */
const tokenMultiple = 8

export class ProfileShapes {
  /** Of any profile. */
  readonly maxRows: number
  readonly maxTokens: number
  /** Of one shape: what buffers must hold. */
  readonly maxCells: number
  readonly #profiles: readonly (ProfileLimits & { readonly plan: number; readonly profile: number })[]
  /** By rows and tokens: every batch asks for hundreds of them. */
  readonly #known = new Map<number, EngineShape | undefined>()

  /** @param plans the profiles of each plan, in the order of their indexes */
  constructor(plans: readonly (readonly ProfileLimits[])[]) {
    this.#profiles = plans.flatMap((profiles, plan) =>
      profiles.map((limits, profile) => ({ ...limits, plan, profile })),
    )
    const largest = (of: (limits: ProfileLimits) => number) => Math.max(...this.#profiles.map(of))
    this.maxRows = largest(({ maxBatch }) => maxBatch)
    this.maxTokens = largest(({ maxTokens }) => maxTokens)
    this.maxCells = largest(({ maxBatch, maxTokens }) => maxBatch * maxTokens)
  }

  /** The fewest cells that hold `rows` texts of at most `tokens` tokens; among equals the profile made for the nearest
   * shape. Undefined when no profile does. */
  fit(rows: number, tokens: number): EngineShape | undefined {
    const key = rows * 2 ** 20 + tokens
    if (!this.#known.has(key)) this.#known.set(key, this.#search(rows, tokens))
    return this.#known.get(key)
  }

  #search(rows: number, tokens: number): EngineShape | undefined {
    let best: EngineShape | undefined
    let bestDistance = Infinity
    for (const limits of this.#profiles) {
      const { plan, profile, maxBatch, maxTokens } = limits
      if (rows > maxBatch || tokens > maxTokens) continue
      const paddedRows = Math.max(rows, limits.minBatch)
      // Rounded last: fit() of the length that comes out must be the same shape again.
      const leastTokens = Math.max(tokens, limits.minTokens)
      const paddedTokens = Math.min(Math.ceil(leastTokens / tokenMultiple) * tokenMultiple, maxTokens)
      const cells = paddedRows * paddedTokens
      const bestCells = best === undefined ? Infinity : best.rows * best.tokens
      const distance = Math.abs(Math.log((limits.optBatch * limits.optTokens) / cells))
      if (cells > bestCells || (cells === bestCells && distance >= bestDistance)) continue
      const key = ((plan * 64 + profile) * 2 ** 13 + paddedRows) * 2 ** 20 + paddedTokens
      best = { plan, profile, rows: paddedRows, tokens: paddedTokens, key }
      bestDistance = distance
    }
    return best
  }
}
