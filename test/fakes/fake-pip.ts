import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface FakePip {
  readonly command: string
  /** The arguments of every call so far, the program text of `python -c` left out. */
  calls(): Promise<string[][]>
}

/** An executable that stands for Python with pip (or for pip, by its name); its body sees `args`, `tempFolder`,
 * `outFolder`, `fs`, `path` and `call` (0 for the first call). */
export async function createFakePip(folder: string, body: string, name = 'python3'): Promise<FakePip> {
  const command = join(folder, name)
  const log = join(folder, `${name}.calls`)
  const script = `#!${process.execPath}
const fs = require('node:fs')
const path = require('node:path')
const given = process.argv.slice(2)
const isPython = given[0] === '-c'
const tempFolder = isPython ? given[2] : undefined
const args = isPython ? given.slice(3) : given
const outFolder = args[args.indexOf('-d') + 1]
const log = ${JSON.stringify(log)}
const call = fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\\n').length : 0
fs.appendFileSync(log, JSON.stringify(args) + '\\n')
${body}
`
  await writeFile(command, script, { mode: 0o755 })
  return {
    command,
    async calls() {
      const text = await readFile(log, 'utf8').catch(() => '')
      const lines = text.split('\n').filter((line) => line !== '')
      return lines.map((line) => Array.from<unknown>(JSON.parse(line)).map(String))
    },
  }
}

/** The body of a pip that delivers a wheel at once. */
export function deliver(wheelPath: string): string {
  return `fs.copyFileSync(${JSON.stringify(wheelPath)}, path.join(outFolder, 'some-1.0-py3-none-any.whl'))`
}
