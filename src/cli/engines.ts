/** engines: what the engine cache holds, and its pruning. */
import { describeDifferences, toMachineIdentity } from '../engines/tensorrt/engine-identity.ts'
import { type CacheEntry, listEngines, removeEntry } from '../engines/tensorrt/engine-cache.ts'
import { EmbedError } from '../errors.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseEngineCache, openMachine, machineKnobs } from './tensorrt-target.ts'

export const enginesCommand: Command = {
  name: 'engines',
  summary: 'List the TensorRT engines in the cache, or remove those that are of no use here',
  usage: 'engines [list|prune] [flags]',
  details: [
    'prune removes backups, unfinished builds of more than a day ago, and engines of another TensorRT, driver or GPU than',
    'those of this machine (where none is found: backups and unfinished builds only).',
  ],
  knobs: [...machineKnobs],
  flags: { 'dry-run': { type: 'boolean', description: 'prune: tell what would be removed, remove nothing' } },
  async run(input) {
    const [action = 'list'] = input.positionals
    if (action !== 'list' && action !== 'prune') {
      throw new EmbedError('USAGE', { reason: `engines ${action}: it takes list or prune` })
    }
    const cachePath = chooseEngineCache(input)
    const entries = await listEngines(cachePath)
    const states = await judgeEntries(input, entries)
    const listed = action === 'list' ? states : states.filter(({ isUseless }) => isUseless)
    for (const { entry, text, isUseless } of listed) {
      const isRemoved = action === 'prune' && isUseless && input.flags['dry-run'] !== true
      if (isRemoved) await removeEntry(entry)
      process.stdout.write(
        `${isRemoved ? 'removed ' : ''}${entry.folder}\n  ${(entry.sizeBytes / 1e6).toFixed(1)} MB, ${text}\n`,
      )
    }
    const sizeBytes = listed.reduce((sum, { entry }) => sum + entry.sizeBytes, 0)
    process.stdout.write(`${listed.length} in ${cachePath}, ${(sizeBytes / 1e6).toFixed(1)} MB\n`)
    return 0
  },
}

interface EntryState {
  readonly entry: CacheEntry
  readonly text: string
  readonly isUseless: boolean
}

const unfinishedAfterMs = 24 * 3_600_000

async function judgeEntries(input: CommandInput, entries: readonly CacheEntry[]): Promise<EntryState[]> {
  const machine = await openMachine(input).catch(() => undefined)
  const here = machine === undefined ? undefined : toMachineIdentity(machine)
  return entries.map((entry) => {
    const { kind, record, ageMs } = entry
    if (kind === 'backup') return { entry, text: 'backup', isUseless: true }
    if (kind === 'unfinished') return { entry, text: 'unfinished', isUseless: ageMs > unfinishedAfterMs }
    if (record === undefined) return { entry, text: 'damaged', isUseless: true }
    const differences = here === undefined ? [] : describeDifferences(record.identity, here)
    const { precision, tensorrt, gpu } = record.identity
    const origin = `${precision}, TensorRT ${tensorrt}, ${gpu}, built ${record.builtAt}`
    if (differences.length > 0) {
      return { entry, text: `${origin}; of no use here: ${differences.join('; ')}`, isUseless: true }
    }
    return { entry, text: origin, isUseless: false }
  })
}
