import { expect, it } from 'vitest'
import { methodTable } from './method-table.ts'

it('no two methods of a class stand in one place of a table', () => {
  for (const column of [0, 1]) {
    const places = Object.entries(methodTable).map(
      ([name, declaration]) => `${name.split('::')[0]} ${declaration[column as 0 | 1]}`,
    )
    expect(new Set(places).size).toBe(places.length)
  }
})
