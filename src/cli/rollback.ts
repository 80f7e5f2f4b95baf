/** rollback: tuned.json as it was at an earlier step of the run. */
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbedError } from '../errors.ts'
import { readJournal } from '../tuning/tuner/journal.ts'
import type { Settings, Slice } from '../tuning/tuner/side.ts'
import { formatSettings } from '../tuning/tuner/story.ts'
import { readTunedFile, writeTunedFile } from '../tuning/tuner/tuned-config.ts'
import type { Command } from './command.ts'

interface Incumbent {
  readonly id: string
  readonly settings: Settings
  readonly slice: Slice
}

export const rollbackCommand: Command = {
  name: 'rollback',
  summary: 'Return to the baseline or to any configuration that tuning had kept',
  usage: 'rollback [ID] [--output folder]',
  details: [
    'Without an ID it lists what there is. tuned.json is rewritten; what it was stays as tuned.json.backup.',
  ],
  knobs: [],
  flags: {
    output: { type: 'string', placeholder: 'folder', description: 'Results of the run (default tuned)' },
  },
  async run({ flags, positionals }) {
    const folder = String(flags['output'] ?? 'tuned')
    const path = join(folder, 'tuned.json')
    const incumbents = await readIncumbents(folder)
    const tuned = readTunedFile(path)
    const [id] = positionals
    if (id === undefined) {
      for (const each of incumbents) {
        process.stdout.write(
          `${each.id === tuned.id ? '*' : ' '} ${each.id.padEnd(9)} ${formatSettings(each.settings)}\n`,
        )
      }
      return 0
    }
    const chosen = incumbents.find((each) => each.id === id)
    if (chosen === undefined) {
      const known = incumbents.map((each) => each.id).join(', ')
      throw new EmbedError('USAGE', { reason: `'${id}' was never kept in ${folder}; there are ${known}` })
    }
    await copyFile(path, `${path}.backup`)
    // What the user asked for stays; what was found is exchanged.
    const { model, scales, engineCachePath } = tuned.settings
    await writeTunedFile(path, {
      ...tuned,
      id,
      date: new Date().toISOString(),
      settings: {
        ...(model === undefined ? {} : { model }),
        ...(scales === undefined ? {} : { scales }),
        ...(engineCachePath === undefined ? {} : { engineCachePath }),
        ...chosen.settings,
      },
      measured: chosen.slice.scenarios,
    })
    process.stdout.write(`${path} is ${id} now: ${formatSettings(chosen.settings)}\n`)
    return 0
  },
}

async function readIncumbents(folder: string): Promise<Incumbent[]> {
  const incumbents = (await readJournal(join(folder, 'journal.jsonl'))).flatMap((entry): Incumbent[] => {
    if (entry.kind === 'baseline') return [{ id: 'baseline', settings: entry.settings, slice: entry.slice }]
    if (entry.kind === 'end') {
      const { untuned } = entry.final
      return 'missing' in untuned ? [] : [{ id: 'untuned', settings: {}, slice: untuned }]
    }
    if (entry.kind !== 'experiment' || entry.result.outcome !== 'kept') return []
    return [{ id: entry.id, settings: entry.settings, slice: entry.result.candidate! }]
  })
  // A run that went on after its end has two of it; the last one counts.
  if (incumbents.length > 0) return [...new Map(incumbents.map((each) => [each.id, each])).values()]
  throw new EmbedError('USAGE', { reason: `${folder} holds no run of tune; give its folder with --output` })
}
