/** Clients that ask for a large answer and take their time, or never take it. */
import { type Socket, connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import type { Tokenizer } from '../../src/serving/tokenizer/tokenizer.ts'
import { sendRaw } from '../fakes/raw-http.ts'
import { startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'

/** More than the kernel keeps for both ends of a connection. */
const answerBytes = 32 << 20
const talkative: Tokenizer = {
  encode: async (texts) => texts.map(() => ({ ids: Int32Array.of(1), totalTokens: 1 })),
  inspect: () => Promise.resolve([]),
  decode: () => Promise.resolve('x'.repeat(answerBytes)),
  [Symbol.asyncDispose]: () => Promise.resolve(),
}
const toRequest = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
const decode = toRequest('/decode', '{"ids": [1]}')

/** A connection that has asked and is told what it may read. */
async function ask(port: number): Promise<{ socket: Socket; closed: Promise<void> }> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await new Promise<void>((resolve) => socket.once('connect', () => resolve()))
  socket.pause()
  socket.write(decode)
  return { socket, closed }
}

describe('sendTimeoutMs', () => {
  it('ends the connection of a client that does not take its answer', async () => {
    await using running = await startArithmeticServer({ sendTimeoutMs: 300 }, { tokenizer: talkative })
    const { socket, closed } = await ask(running.port)
    const readMetrics = async () => (await fetch(`${running.url}/metrics`)).text()
    const left = 'embed_requests_total{route="/decode",status="499",outcome="REQUEST_CANCELLED"} 1'
    await expect.poll(readMetrics, { timeout: 5000, interval: 50 }).toContain(left)
    socket.resume()
    await closed
    expect(socket.bytesRead).toBeLessThan(answerBytes)
  })

  it('leaves a client alone that takes it slowly', async () => {
    await using running = await startArithmeticServer({ sendTimeoutMs: 300 }, { tokenizer: talkative })
    const { socket } = await ask(running.port)
    const startMs = performance.now()
    let pauses = 0
    socket.on('data', () => {
      if (socket.bytesRead < (pauses + 1) << 21) return
      pauses++
      socket.pause()
      setTimeout(() => socket.resume(), 50)
    })
    socket.resume()
    await expect.poll(() => socket.bytesRead, { timeout: 10_000 }).toBeGreaterThan(answerBytes)
    expect(performance.now() - startMs).toBeGreaterThan(600)
    socket.destroy()
  })

  it('does not count the time in which a later request on the connection is worked on', async () => {
    await using running = await startArithmeticServer({ sendTimeoutMs: 200 }, { durationMs: 600 })
    const embed = toRequest('/embed', '{"inputs": "a"}')
    // The second comes while the first is under way, the third on the idle connection.
    const sent = sendRaw(running.port, [embed + embed, '', embed], { pauseMs: 750, waitMs: 2600 })
    const { text, isClosed } = await sent
    expect([text.match(/HTTP\/1\.1 200/g)?.length, isClosed]).toEqual([3, false])
  })
})
