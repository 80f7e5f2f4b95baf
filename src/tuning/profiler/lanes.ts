/** Rows of a picture: what overlaps goes to different ones. */
import type { Interval } from '../../hardware/gpu/activity.ts'

/** Each in the first row whose last one is over, or encloses it as a call does the calls it makes. In order of start. */
export function toLanes<Item extends Interval>(items: readonly Item[]): Item[][] {
  const lanes: { readonly items: Item[]; readonly open: Item[] }[] = []
  for (const item of items.toSorted((a, b) => a.startNs - b.startNs || b.endNs - a.endNs)) {
    const lane = lanes.find(({ open }) => {
      while (open.length > 0 && open.at(-1)!.endNs <= item.startNs) open.pop()
      return open.length === 0 || item.endNs <= open.at(-1)!.endNs
    })
    if (lane === undefined) lanes.push({ items: [item], open: [item] })
    else {
      lane.items.push(item)
      lane.open.push(item)
    }
  }
  return lanes.map((lane) => lane.items)
}
