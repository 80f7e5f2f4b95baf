import { expect, it } from 'vitest'
import { runSideBySide } from './side-by-side.ts'

const turn = () => new Promise((resolve) => void setImmediate(resolve))

it('runs each task once, as many at once as there are places', async () => {
  const done: number[] = []
  const busy = new Set<number>()
  let most = 0
  await runSideBySide(10, 3, async (task, place) => {
    expect(busy.has(place)).toBe(false)
    busy.add(place)
    most = Math.max(most, busy.size)
    for (let i = 0; i <= task % 3; i++) await turn()
    busy.delete(place)
    done.push(task)
  })
  expect(done.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  expect(most).toBe(3)
  await runSideBySide(0, 3, () => Promise.reject(new Error('nothing to do')))
})

it('begins none after a failure, and waits for those under way', async () => {
  const begun: number[] = []
  const ended: number[] = []
  const running = runSideBySide(100, 2, async (task) => {
    begun.push(task)
    if (task === 3) throw new Error('of task 3')
    for (let i = 0; i < 5; i++) await turn()
    ended.push(task)
  })
  await expect(running).rejects.toThrow('of task 3')
  expect(ended).toEqual(begun.filter((task) => task !== 3))
  expect(begun.length).toBeLessThan(6)
})
