/** Coordinate descent on one knob: what to try next, given what the last tries gave. */
import type { KnobValue, StageKnob } from './search-space.ts'

/** @param current the incumbent's value; undefined where it leaves the knob to the engine
 * @param attempt tries a value; true when it was kept
 * Numbers are walked up and, where that gave nothing, down, until one is not kept: a knob whose next value does not help
 * seldom helps at the one after. The default comes first: someone found it good, and the next value may be too small a step
 * to show. Others are all tried. */
export async function descend(
  knob: StageKnob,
  current: KnobValue | undefined,
  attempt: (value: KnobValue) => Promise<boolean>,
): Promise<void> {
  if (typeof current !== 'number') {
    for (const value of knob.values) if (value !== current) await attempt(value)
    return
  }
  const values = [...new Set([...knob.values, current])].sort((a, b) => Number(a) - Number(b))
  const { byDefault } = knob
  const isKept = typeof byDefault === 'number' && byDefault !== current && (await attempt(byDefault))
  const place = values.indexOf(isKept ? byDefault : current)
  const walk = async (step: 1 | -1): Promise<boolean> => {
    let isBetter = false
    for (let next = place + step; next >= 0 && next < values.length; next += step) {
      const value = values[next]!
      if (value === byDefault || !(await attempt(value))) break
      isBetter = true
    }
    return isBetter
  }
  if (!(await walk(1))) await walk(-1)
}
