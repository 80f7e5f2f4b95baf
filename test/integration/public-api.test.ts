/** The library surface, as types and as values. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

const dist = new URL('../../dist/', import.meta.url)

describe('public API', () => {
  it('has the declared types of the snapshot (npm test -- -u after a wanted change)', async () => {
    const declarations = ['index.d.ts', 'serving/pipeline/start-pipeline.d.ts', 'engines/engine.d.ts']
      .map((path) => `// ${path}\n${readFileSync(new URL(path, dist), 'utf8')}`)
      .join('\n')
    await expect(declarations).toMatchFileSnapshot('../fixtures/public-api.d.ts.txt')
  })

  it('exports these names and starts nothing', async () => {
    const handles = process.getActiveResourcesInfo().length
    const api = (await import(new URL('index.js', dist).href)) as object
    expect(Object.keys(api).toSorted()).toEqual(['EmbedError', 'createEmbedder'])
    expect(process.getActiveResourcesInfo().length).toBeLessThanOrEqual(handles)
  })
})
