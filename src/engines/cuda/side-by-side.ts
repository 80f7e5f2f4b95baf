/** Reads of a file under way: as many as libuv has threads. One by one they are bound by a single core. */
export const readsAtOnce = 4

/** Runs the tasks 0 to count - 1, some at once, each in one of `atOnce` places. After a failure none is begun, and those under
 * way are waited for: they may hold what their caller frees. */
export async function runSideBySide(
  count: number,
  atOnce: number,
  run: (task: number, place: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const work = async (place: number) => {
    try {
      while (next < count) await run(next++, place)
    } catch (error) {
      next = count
      throw error
    }
  }
  const places = Array.from({ length: Math.min(atOnce, count) }, (_, place) => place)
  const ends = await Promise.allSettled(places.map(work))
  const failed = ends.find((end) => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
