// An open-loop HTTP client: requests leave at fixed times whatever the server does, over keep-alive sockets that are
// taken from a pool or opened as needed. Latency counts from the time at which a request was due, so a client that
// falls behind does not hide it (coordinated omission).
import net from 'node:net'

/** Requests that fall due together leave together: to wake up for each would cost the machine more than they do. */
const tickMs = 2
const closingBrace = 125

/** @param {{ port: number, path: string, bodies: readonly string[], headers?: Record<string, string>,
 *   requestsPerSecond: number, durationMs: number, maxSockets?: number }} options
 * @returns {Promise<{ sent: number, byStatus: Record<string, number>, latenciesMs: Record<string, number[]>,
 *   elapsedMs: number, failures: number, notSent: number }>} latencies by status; notSent: no socket was free in time */
export async function runOpenLoop(options) {
  const { port, path, bodies, headers = {}, requestsPerSecond, durationMs, maxSockets = 2000 } = options
  const extra = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const requests = bodies.map((body) =>
    Buffer.from(
      `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n${extra.join('')}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    ),
  )
  const idle = []
  const counts = { sent: 0, failures: 0, notSent: 0, open: 0, pending: 0 }
  const byStatus = {}
  const latenciesMs = {}
  const note = (status, dueMs) => {
    byStatus[status] = (byStatus[status] ?? 0) + 1
    ;(latenciesMs[status] ??= []).push(performance.now() - dueMs)
  }
  const send = (dueMs) => {
    const connection = idle.pop() ?? (counts.open < maxSockets ? connect(port, counts, idle) : undefined)
    if (connection === undefined) {
      counts.notSent++
      return
    }
    counts.pending++
    connection.send(requests[counts.sent++ % requests.length], (status) => {
      counts.pending--
      if (status === undefined) counts.failures++
      else note(status, dueMs)
    })
  }

  const startMs = performance.now()
  let due = 0
  const total = Math.floor((requestsPerSecond * durationMs) / 1000)
  while (due < total) {
    const nowMs = performance.now() - startMs
    while (due < total && (due * 1000) / requestsPerSecond <= nowMs)
      send(startMs + (due++ * 1000) / requestsPerSecond)
    await new Promise((resolve) => setTimeout(resolve, tickMs))
  }
  const elapsedMs = performance.now() - startMs
  for (let i = 0; i < 3000 && counts.pending > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  for (const connection of idle) connection.close()
  return {
    sent: counts.sent,
    byStatus,
    latenciesMs,
    elapsedMs,
    failures: counts.failures + counts.pending,
    notSent: counts.notSent,
  }
}

/** A whole one, told by its first and its last bytes: most answers are, and what they cost here the server lacks. */
function isRefusal(chunk) {
  return chunk[9] === 52 && chunk[10] === 50 && chunk[11] === 57 && chunk[chunk.length - 1] === closingBrace
}

/** One keep-alive connection that carries one request at a time. */
function connect(port, counts, idle) {
  counts.open++
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  let onAnswer
  let received = ''
  let missing = -1
  let status
  const end = () => {
    if (onAnswer !== undefined) onAnswer(undefined)
    onAnswer = undefined
    if (!socket.destroyed) socket.destroy()
  }
  socket.on('error', end)
  socket.on('close', () => {
    counts.open--
    const place = idle.indexOf(connection)
    if (place !== -1) idle.splice(place, 1)
    end()
  })
  socket.on('data', (chunk) => {
    if (missing === -1 && received === '' && isRefusal(chunk)) {
      status = 429
      missing = 0
    } else if (missing === -1) {
      received += chunk.toString('latin1')
      const headEnd = received.indexOf('\r\n\r\n')
      if (headEnd === -1) return
      const head = received.slice(0, headEnd)
      status = Number(head.slice(9, 12))
      missing = headEnd + 4 + Number(/content-length: *(\d+)/i.exec(head)[1]) - received.length
    } else missing -= chunk.length
    if (missing > 0) return
    const answered = onAnswer
    onAnswer = undefined
    received = ''
    missing = -1
    idle.push(connection)
    answered(status)
  })
  const connection = {
    send(request, callback) {
      onAnswer = callback
      socket.write(request)
    },
    close: () => socket.destroy(),
  }
  return connection
}
