/** What the stages publish of a request, and whose they say it is. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  type BatchDone,
  type RequestDone,
  type TokenizeDone,
  type TypedChannel,
  batchDone,
  requestDone,
  tokenizeDone,
} from '../../src/telemetry/channels.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

let tiny: TinyServer
beforeAll(async () => {
  tiny = await startTinyServer({ maxBatchSize: 2 })
})
afterAll(() => tiny[Symbol.asyncDispose]())

it('tells of tokenisation, batches and the request, with its source and its origin', async () => {
  using tokenized = record<TokenizeDone>(tokenizeDone)
  using batched = record<BatchDone>(batchDone)
  using requested = record<RequestDone>(requestDone)
  const source = tiny.pipeline
  const origin = {}
  await tiny.pipeline.embed({
    inputs: ['the cat', 'the cat', 'the cat and the dog '.repeat(40)],
    truncation: 'right',
    origin,
  })

  expect(tokenized.messages).toEqual([
    expect.objectContaining({ source, origin, texts: 3, tokens: 4 + 4 + 64, truncatedTexts: 1 }),
  ])
  const lengths = batched.messages.flatMap((batch) => batch.lengths)
  expect(lengths.toSorted((a, b) => a! - b!)).toEqual([4, 4, 64])
  for (const batch of batched.messages) {
    expect(batch.source).toBe(source)
    expect(batch.lengths).toHaveLength(batch.sequences)
    expect(batch.tokens).toBe(batch.lengths!.reduce((sum, length) => sum + length, 0))
  }
  const [done] = requested.messages
  expect(requested.messages).toHaveLength(1)
  expect(done).toMatchObject({ source, origin, inputs: 3, tokens: 72, outcome: 'ok', truncatedInputs: 1 })
  expect(done!.batches!.map((batch) => [batch.batchSize, batch.batchTokens])).toEqual(
    batched.messages.map((batch) => [batch.sequences, batch.tokens]),
  )
  for (const { startedMs, inferenceMs } of done!.batches!) {
    expect(startedMs).toBeGreaterThanOrEqual(done!.startedMs! + done!.tokenizeMs!)
    expect(startedMs + inferenceMs).toBeLessThanOrEqual(done!.startedMs! + done!.durationMs)
  }
})

it('tells the code of a failure', async () => {
  using requested = record<RequestDone>(requestDone)
  await expect(tiny.pipeline.embed({ inputs: ['a', ''], truncation: 'right' })).rejects.toThrow('empty')
  expect(requested.messages).toMatchObject([{ outcome: 'EMPTY_INPUT', inputs: 2, tokens: 0 }])
})

function record<Message extends object>(
  channel: TypedChannel<Message>,
): Disposable & { readonly messages: readonly Message[] } {
  const messages: Message[] = []
  const listener = (message: Message): void => void messages.push(message)
  channel.subscribe(listener)
  return { messages, [Symbol.dispose]: () => channel.unsubscribe(listener) }
}
