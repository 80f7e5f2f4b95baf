import { EmbedError } from '../errors.ts'
import type { CommandInput } from './command.ts'

/** --clients: the closed loops to measure with. @throws {EmbedError} USAGE */
export function readClients(flags: CommandInput['flags'], byDefault: string): number[] {
  return String(flags['clients'] ?? byDefault)
    .split(',')
    .map((text) => {
      const clients = Number(text)
      if (Number.isInteger(clients) && clients > 0) return clients
      throw new EmbedError('USAGE', { reason: `--clients has '${text}'; it takes whole numbers above 0` })
    })
}
