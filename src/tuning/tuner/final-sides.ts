/** The comparison at the end with the sides that it needs beside the winner, each started for it and ended after it. */
import { toReason } from '../../errors.ts'
import { type FinalOptions, compareAtEnd } from './final-comparison.ts'
import type { FinalComparison } from './journal.ts'
import type { Settings, Side, StartSide } from './side.ts'

export interface FinalConfigurations {
  readonly start: StartSide
  readonly baseline: Settings
  /** What a user gets without tuning. */
  readonly untuned: Settings
  /** What it must not profit from, for it to be just that: no part of the result. */
  readonly untunedConditions?: Settings
  /** A plain loop over onnxruntime-node with one client, to hold a baseline on onnx against. */
  readonly startPlainLoop?: StartSide
}

/** @param winner borrowed
 * @param options.isUntuned whether it is what serve takes by itself: a second one of the same would only differ by noise
 * @throws what a side throws, and the signal's reason */
export async function compareConfigurations(
  winner: Side,
  { start, startPlainLoop, baseline, untuned, untunedConditions }: FinalConfigurations,
  options: FinalOptions & { readonly isUntuned: boolean },
): Promise<FinalComparison> {
  const startIfPossible = async (startSide: StartSide, settings: Settings): Promise<Side | MissingSide> => {
    try {
      return await startSide(settings)
    } catch (error) {
      options.signal?.throwIfAborted()
      return toMissing(`it does not start: ${toReason(error)}`)
    }
  }
  await using baselineSide = await start(baseline)
  await using other = options.isUntuned
    ? undefined
    : await startIfPossible(start, { ...untuned, ...untunedConditions })
  await using plain =
    startPlainLoop === undefined
      ? toMissing('the baseline is no onnx on the CPU')
      : await startIfPossible(startPlainLoop, baseline)
  return await compareAtEnd({ baseline: baselineSide, untuned: other ?? winner, winner, plain }, options)
}

interface MissingSide extends AsyncDisposable {
  readonly missing: string
}

function toMissing(missing: string): MissingSide {
  return { missing, async [Symbol.asyncDispose]() {} }
}
