/** A full queue answers before a body is read. */
import { expect, it } from 'vitest'
import { startTinyServer } from '../fixtures/start-tiny-server.ts'

it('refuses an embedding request unread while the queue is full, and nothing else', async () => {
  await using tiny = await startTinyServer({ maxQueuedRequests: 1 })
  const post = (url: string, headers: Record<string, string> = {}) =>
    tiny.server.app.inject({
      method: 'POST',
      url,
      payload: 'not JSON',
      headers: { 'content-type': 'application/json', ...headers },
    })
  expect((await post('/embed')).statusCode).toBe(400)

  // In process and never awaited by HTTP: it holds the one place until its last batch is done.
  const holding = tiny.pipeline.embed({
    inputs: Array.from({ length: 2000 }, () => 'the cat and the dog'),
    truncation: 'right',
  })
  for (const path of ['/embed', '/v1/embeddings', '/v2/embed', '/api/embed']) {
    const answer = await post(path)
    expect(answer.statusCode, path).toBe(429)
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
  }
  expect((await post('/embed', { 'x-priority': 'high' })).statusCode).toBe(400)
  expect((await post('/tokenize')).statusCode).toBe(400)
  expect((await tiny.server.app.inject('/readyz')).statusCode).toBe(200)
  await holding
  expect((await post('/embed')).statusCode).toBe(400)
})
