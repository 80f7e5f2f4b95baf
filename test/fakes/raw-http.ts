import { type Socket, connect } from 'node:net'

/** Writes bytes as they are to a server on this machine.
 * @returns all that came back until the server closed the connection, or until `waitMs` */
export function sendRaw(
  port: number,
  chunks: readonly string[],
  { waitMs = 5000, pauseMs = 10 }: { waitMs?: number; pauseMs?: number } = {},
): Promise<{ text: string; isClosed: boolean }> {
  return new Promise((resolve) => {
    let text = ''
    const socket: Socket = connect(port, '127.0.0.1', () => void write())
    const write = async (): Promise<void> => {
      for (const chunk of chunks) {
        if (socket.destroyed) return
        socket.write(chunk)
        await new Promise((next) => setTimeout(next, pauseMs))
      }
    }
    const timer = setTimeout(() => finish(false), waitMs)
    const finish = (isClosed: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ text, isClosed })
    }
    socket.on('data', (bytes) => (text += bytes.toString('latin1')))
    socket.on('error', () => undefined)
    socket.on('close', () => finish(true))
  })
}
