// A closed-loop HTTP client that costs next to nothing: raw keep-alive sockets, requests written as ready bytes.
import net from 'node:net'

/** @param {{ port: number, path: string, bodies: readonly string[], clients: number, durationMs: number,
 *   warmupMs?: number, headers?: Record<string, string> }} options
 * @returns {Promise<{ latenciesMs: number[], requests: number, errors: number, elapsedMs: number, firstError?: string }>} */
export async function runClosedLoop({ port, path, bodies, clients, durationMs, warmupMs = 0, headers = {} }) {
  const extra = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const requests = bodies.map((body) => {
    const head = `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n${extra.join('')}content-length: ${Buffer.byteLength(body)}\r\n\r\n`
    return Buffer.from(head + body)
  })
  const startMs = performance.now()
  const measureFromMs = startMs + warmupMs
  const endMs = measureFromMs + durationMs
  const latenciesMs = []
  const state = { next: 0, errors: 0, firstError: undefined }
  await Promise.all(
    Array.from({ length: clients }, () =>
      runClient(
        port,
        () => requests[state.next++ % requests.length],
        endMs,
        (sentMs, doneMs, status, text) => {
          if (sentMs < measureFromMs) return
          if (status === 200) latenciesMs.push(doneMs - sentMs)
          else {
            state.errors++
            state.firstError ??= `${status} ${text().slice(0, 200)}`
          }
        },
      ),
    ),
  )
  const elapsedMs = performance.now() - measureFromMs
  return { latenciesMs, requests: latenciesMs.length, elapsedMs, ...pickErrors(state) }
}

function pickErrors({ errors, firstError }) {
  return firstError === undefined ? { errors } : { errors, firstError }
}

function runClient(port, nextRequest, endMs, onAnswer) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
    let sentMs = 0
    let chunks = []
    let received = 0
    let expected = -1
    let status = 0
    const send = () => {
      if (performance.now() >= endMs) {
        socket.end()
        resolve()
        return
      }
      chunks = []
      received = 0
      expected = -1
      sentMs = performance.now()
      socket.write(nextRequest())
    }
    socket.on('connect', send)
    socket.on('error', reject)
    socket.on('close', resolve)
    socket.on('data', (chunk) => {
      chunks.push(chunk)
      received += chunk.length
      if (expected === -1) {
        const text = Buffer.concat(chunks).toString('latin1')
        const headEnd = text.indexOf('\r\n\r\n')
        if (headEnd === -1) return
        status = Number(text.slice(9, 12))
        const length = /content-length: *(\d+)/i.exec(text.slice(0, headEnd))
        if (length === null) {
          reject(new Error('the load client needs answers with a content-length'))
          socket.destroy()
          return
        }
        expected = headEnd + 4 + Number(length[1])
      }
      if (received < expected) return
      const answer = chunks
      onAnswer(sentMs, performance.now(), status, () => Buffer.concat(answer).toString('utf8'))
      send()
    })
  })
}

/** @param {readonly number[]} values @param {number} share 0 to 1; the nearest-rank percentile */
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
}

export const median = (values) => percentile(values, 0.5)
