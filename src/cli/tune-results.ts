/** The files that a finished run leaves, written from its journal, and the lines that sum it up. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbedError } from '../errors.ts'
import { buildGuide } from '../tuning/tuner/guide.ts'
import { readJournal } from '../tuning/tuner/journal.ts'
import { renderHtml, renderMarkdown } from '../tuning/tuner/render-report.ts'
import { buildReport } from '../tuning/tuner/report.ts'
import { judgeStory, toStory } from '../tuning/tuner/story.ts'
import type { Target } from '../tuning/tuner/targets.ts'

/** @returns the exit code
 * @throws {EmbedError} USAGE where there is no finished run, FILE_UNREADABLE, FILE_FORMAT */
export async function writeResults(folder: string, targets: readonly Target[]): Promise<number> {
  const story = toStory(await readJournal(join(folder, 'journal.jsonl')))
  if (story === undefined) {
    throw new EmbedError('USAGE', {
      reason: `${folder} holds no finished run of tune; 'tune --resume' goes on`,
    })
  }
  const report = buildReport(story, targets)
  const title = `Tuning of ${story.begin.key.model}`
  const tunedPath = join(folder, 'tuned.json')
  await writeFile(join(folder, 'report.md'), renderMarkdown(title, report))
  await writeFile(join(folder, 'report.html'), renderHtml(title, report))
  await writeFile(
    join(folder, 'tuning-guide.md'),
    renderMarkdown('Tuning guide', buildGuide(story, tunedPath)),
  )
  const judged = judgeStory(story, targets)
  for (const { scenario, overBaseline, overUntuned } of story.end.final.gains) {
    const untuned =
      overUntuned === undefined ? '' : `, ${overUntuned.ratio.toFixed(2)} times the untuned service`
    process.stdout.write(
      `${scenario.padEnd(12)} ${overBaseline.ratio.toFixed(2)} times the baseline${untuned}\n`,
    )
  }
  for (const { target, verdict } of judged) process.stdout.write(`${verdict.padEnd(12)} ${target.name}\n`)
  process.stdout.write(
    `\nreport       ${join(folder, 'report.html')}\nnext         akidb-embedding serve --tuned ${tunedPath}\n`,
  )
  return judged.some(({ verdict }) => verdict === 'FAIL') ? 1 : 0
}
