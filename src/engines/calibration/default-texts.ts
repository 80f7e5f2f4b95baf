/** The texts that calibration takes when the user brings none. */
import { readFile } from 'node:fs/promises'

/** Same depth below the package root from src/ and from dist/. */
const textsFile = new URL('../../../assets/calibration/texts.txt', import.meta.url)

/** Long texts are joined of so many lines: about 300 tokens. */
const linesTogether = 12

/** Each line of the shipped file, and every few of them as one long text. */
export async function readDefaultTexts(): Promise<readonly string[]> {
  const lines = (await readFile(textsFile, 'utf8')).split('\n').filter((line) => line !== '')
  const starts = Array.from({ length: Math.floor(lines.length / linesTogether) }, (_, i) => i * linesTogether)
  return [...lines, ...starts.map((start) => lines.slice(start, start + linesTogether).join(' '))]
}
