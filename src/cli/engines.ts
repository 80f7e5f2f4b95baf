/** engines: what the caches of TensorRT's engines and of FP8 weights hold, and their pruning. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { listWeightFiles, weightsFolderName } from '../engines/cuda/weight-files.ts'
import { describeDifferences, toMachineIdentity } from '../engines/tensorrt/engine-identity.ts'
import { listEngines, removeEntry } from '../engines/tensorrt/engine-cache.ts'
import { EmbedError } from '../errors.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseEngineCache, openMachine, machineKnobs } from './tensorrt-target.ts'

export const enginesCommand: Command = {
  name: 'engines',
  summary: 'List the TensorRT engines and FP8 weights in the cache, or remove what is of no use here',
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
    const states = [...(await judgeEngines(input, cachePath)), ...(await judgeWeights(input))]
    const listed = action === 'list' ? states : states.filter(({ isUseless }) => isUseless)
    for (const { path, sizeBytes, text, isUseless, remove } of listed) {
      const isRemoved = action === 'prune' && isUseless && input.flags['dry-run'] !== true
      if (isRemoved) await remove()
      process.stdout.write(
        `${isRemoved ? 'removed ' : ''}${path}\n  ${(sizeBytes / 1e6).toFixed(1)} MB, ${text}\n`,
      )
    }
    const sizeBytes = listed.reduce((sum, each) => sum + each.sizeBytes, 0)
    process.stdout.write(`${listed.length} in ${cachePath}, ${(sizeBytes / 1e6).toFixed(1)} MB\n`)
    return 0
  },
}

interface EntryState {
  readonly path: string
  readonly sizeBytes: number
  readonly text: string
  readonly isUseless: boolean
  readonly remove: () => Promise<void>
}

const unfinishedAfterMs = 24 * 3_600_000

async function judgeEngines(input: CommandInput, cachePath: string): Promise<EntryState[]> {
  const entries = await listEngines(cachePath)
  const machine = await openMachine(input).catch(() => undefined)
  const here = machine === undefined ? undefined : toMachineIdentity(machine)
  return entries.map((entry) => {
    const { kind, record, ageMs, folder: path, sizeBytes } = entry
    const file = { path, sizeBytes, remove: async () => removeEntry(entry) }
    if (kind === 'backup') return { ...file, text: 'backup', isUseless: true }
    if (kind === 'unfinished') return { ...file, text: 'unfinished', isUseless: ageMs > unfinishedAfterMs }
    if (record === undefined) return { ...file, text: 'damaged', isUseless: true }
    const differences = here === undefined ? [] : describeDifferences(record.identity, here)
    const { precision, tensorrt, gpu } = record.identity
    const origin = `${precision}, TensorRT ${tensorrt}, ${gpu}, built ${record.builtAt}`
    if (differences.length > 0) {
      return { ...file, text: `${origin}; of no use here: ${differences.join('; ')}`, isUseless: true }
    }
    return { ...file, text: origin, isUseless: false }
  })
}

/** They serve every GPU. */
async function judgeWeights(input: CommandInput): Promise<EntryState[]> {
  const files = await listWeightFiles(join(chooseCacheDir(input), weightsFolderName))
  return files.map(({ path, sizeBytes, ageMs, isUnfinished }) => ({
    path,
    sizeBytes,
    text: isUnfinished ? 'unfinished' : 'FP8 weights of the native engine',
    isUseless: isUnfinished && ageMs > unfinishedAfterMs,
    remove: async () => rm(path, { force: true }),
  }))
}
