import type { ServerResponse } from 'node:http'
import { Socket } from 'node:net'

/** Ends the connection of a client that takes nothing of its answer for `sendTimeoutMs`: the answer would stay in
 * memory for as long as the client likes. To be called before the answer is written. */
export function limitSending(response: ServerResponse, sendTimeoutMs: number): void {
  const { socket } = response
  // Requests that are injected have no connection.
  if (!(socket instanceof Socket)) return
  // Without a listener of ours Node destroys a socket that times out; bytes that leave count as activity.
  socket.setTimeout(sendTimeoutMs)
  // Before Node's own listener, which sets the timeout of an idle connection: what else may wait on this one has none.
  response.prependOnceListener('finish', () => socket.setTimeout(0))
}
