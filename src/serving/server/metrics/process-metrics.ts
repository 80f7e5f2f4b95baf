/** Facts of the process: CPU, memory, event loop, garbage collection, file descriptors. */
import { Registry, collectDefaultMetrics } from 'prom-client'

let shared: Registry | undefined

/** One for all servers of a process: its observers of the event loop and of the garbage collector cannot be stopped,
 * so a second set would be a leak. */
export function getProcessRegistry(): Registry {
  if (shared === undefined) {
    shared = new Registry()
    collectDefaultMetrics({ register: shared })
  }
  return shared
}
