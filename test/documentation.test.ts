/** Documentation that cannot rot: pages in docs/ equal the code, both ways. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { benchCommand } from '../src/cli/bench.ts'
import { buildCommand } from '../src/cli/build.ts'
import { doctorCommand } from '../src/cli/doctor.ts'
import { embedCommand } from '../src/cli/embed.ts'
import { enginesCommand } from '../src/cli/engines.ts'
import { profileCommand } from '../src/cli/profile.ts'
import { serveCommand } from '../src/cli/serve.ts'
import { verifyPrecisionCommand } from '../src/cli/verify-precision.ts'
import { type Knob, knobs } from '../src/config/schema.ts'
import { tensorrtKnobs } from '../src/config/tensorrt-knobs.ts'
import { errorCodes } from '../src/errors.ts'

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

describe('documentation', () => {
  it('docs/errors.md explains every code and no other', () => {
    const documented = [...read('docs/errors.md').matchAll(/^### `([A-Z_0-9]+)`$/gm)].map((match) => match[1])
    expect(new Set(documented)).toEqual(new Set(errorCodes))
  })

  it('docs/configuration.md is what the schema says (npm test -- -u writes it anew)', async () => {
    await expect(toConfigurationPage()).toMatchFileSnapshot('../docs/configuration.md')
  })

  it('the README names both commands and only flags that exist', () => {
    const readme = read('README.md')
    expect(readme).toContain('npm start')
    expect(readme).toContain('npm test')
    const own = [serveCommand, embedCommand, benchCommand].flatMap((command) =>
      Object.keys(command.flags).map((name) => `--${name}`),
    )
    const known = new Set([...knobs.map((knob) => knob.flag), ...own, '--help', '--config'])
    for (const [flag] of readme.matchAll(/(?<=\s)--[a-z][a-z-]+/g)) expect(known, flag).toContain(flag)
  })
})

describe('docs/tensorrt.md', () => {
  const page = read('docs/tensorrt.md')

  it("explains every knob of TensorRT's and names no flag, command or code that there is not", () => {
    const explained = [...page.matchAll(/^\| `(\w+)` +\|/gm)].map(([, key]) => key)
    for (const key of Object.keys(tensorrtKnobs)) expect(explained).toContain(key)
    const commands = [buildCommand, verifyPrecisionCommand, enginesCommand, doctorCommand, serveCommand]
    const own = commands.flatMap((command) => Object.keys(command.flags).map((name) => `--${name}`))
    const flags = new Set([...knobs.map((knob) => knob.flag), ...own])
    for (const [flag] of page.matchAll(/(?<=[\s`])--[a-z][a-z-]+/g)) expect(flags, flag).toContain(flag)
    const names = commands.map(({ name }) => name)
    for (const [, name] of page.matchAll(/^akidb-embedding (\S+)/gm)) expect(names).toContain(name)
    for (const [, code] of page.matchAll(/^\| `([A-Z_]+)`/gm)) expect(errorCodes).toContain(code)
  })
})

describe('docs/profiling.md', () => {
  const page = read('docs/profiling.md')

  it('names only flags and codes that exist', () => {
    const own = Object.keys(profileCommand.flags).map((name) => `--${name}`)
    const flags = new Set([...knobs.map((knob) => knob.flag), ...own])
    for (const [flag] of page.matchAll(/(?<=[\s`])--[a-z][a-z-]+/g)) expect(flags, flag).toContain(flag)
    const codes = new Set<string>(errorCodes)
    for (const [, code] of page.matchAll(/`([A-Z]+_[A-Z_]+)`/g)) expect(codes, code).toContain(code)
  })
})

describe('docs/from-tei.md', () => {
  const page = read('docs/from-tei.md')
  const rows = [...page.matchAll(/^\| (`.*?) +\| (.*?) +\| /gm)]

  it("names every flag of TEI's router with its variable", () => {
    const named = rows.map(([, theirs]) => theirs!)
    for (const flag of teiFlags) {
      const variable = flag.toUpperCase().replaceAll('-', '_')
      expect(named, flag).toContain(`\`--${flag}\`, \`${variable}\``)
    }
  })

  it('names only flags and keys of ours that exist', () => {
    const ours = rows.flatMap(([, , here]) => [...here!.matchAll(/--[a-z][a-z-]+/g)].map(([flag]) => flag))
    expect(ours.length).toBeGreaterThan(20)
    const flags = new Set(knobs.map((knob) => knob.flag))
    expect(ours.filter((flag) => !flags.has(flag))).toEqual([])
    const keys = new Set<string>(knobs.map((knob) => knob.key))
    const named = [...page.matchAll(/`([a-z]+[A-Z]\w*)`/g)].map(([, key]) => key!)
    expect(named.filter((key) => !keys.has(key))).toEqual([])
    const example = page.slice(page.indexOf('npx akidb-embedding'), page.indexOf('# after'))
    for (const [flag] of example.matchAll(/--[a-z-]+/g)) expect(flags, flag).toContain(flag)
  })
})

/** Of its 1.9.3; each has a variable of the same name. */
const teiFlags = (
  'model-id revision tokenization-workers dtype served-model-name pooling max-concurrent-requests max-batch-tokens ' +
  'max-batch-requests max-client-batch-size auto-truncate default-prompt-name default-prompt dense-path hf-api-token ' +
  'hf-token hostname port uds-path huggingface-hub-cache payload-limit api-key json-output disable-spans ' +
  'otlp-endpoint otlp-service-name prometheus-port cors-allow-origin'
).split(' ')

function toConfigurationPage(): string {
  const rows = knobs.map(
    (knob) =>
      `| \`${knob.key}\` | \`${knob.flag}\` | \`${knob.variable}\` | ${takes(knob)} | ${byDefault(knob)} | ${knob.description} |`,
  )
  const fixed = knobs.filter((knob) => knob.needsRestart === true).map((knob) => `\`${knob.key}\``)
  return `# Configuration

Made from the one schema, src/config/schema.ts; a test keeps the two equal.

A flag wins over an environment variable, that over the file given with \`--config\` (or \`AKIDB_CONFIG\`), that over the
default. The file is one JSON object with the keys below; an unknown key or flag is refused with the nearest known name.
\`createEmbedder({ … })\` takes the same keys and reads neither the environment nor a file.

SIGHUP makes a running server read all of it again; ${fixed.join(', ')} change only with a restart.

| key | flag | variable | takes | default | what it does |
|---|---|---|---|---|---|
${rows.join('\n')}
`
}

function takes(knob: Knob): string {
  if (knob.choices !== undefined) return knob.choices.join(', ')
  if (knob.type === 'string') return knob.placeholder?.replace('|', ' or ') ?? 'text'
  if (knob.type === 'boolean') return 'true, false'
  const range = knob.maximum === undefined ? `>= ${knob.minimum}` : `${knob.minimum} to ${knob.maximum}`
  return knob.unit === undefined ? range : `${range} ${knob.unit}`
}

function byDefault(knob: Knob): string {
  return knob.default === undefined ? '-' : `\`${String(knob.default)}\``
}
