/** The built program as a user runs it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
let folder: string
let model: string
let shared: string[]
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('dist/ is not built; npm test builds it')
  folder = await mkdtemp(join(tmpdir(), 'akidb-cli-'))
  model = join(folder, 'tiny-bert')
  await writeTinyBert(model)
  shared = [
    '--model',
    model,
    '--cache-dir',
    join(folder, 'cache'),
    '--engine',
    'onnx',
    '--threads',
    '1',
    '--offline',
  ]
})
afterAll(() => rm(folder, { recursive: true }))

interface Run {
  code: number
  stdout: string
  stderr: string
}

function run(
  args: readonly string[],
  options: { stdin?: string; env?: Record<string, string> } = {},
): Promise<Run> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { env: { PATH: process.env['PATH'], HOME: folder, ...options.env }, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => resolve({ code: (error?.code as number | undefined) ?? 0, stdout, stderr }),
    )
    child.stdin!.end(options.stdin ?? '')
  })
}

describe('help and mistakes', () => {
  it('tells every command, and every command its flags', async () => {
    const { code, stdout } = await run(['--help'])
    expect(code).toBe(0)
    for (const name of 'serve embed pull pull-runtime export build verify-precision engines bench quality tune verify rollback doctor'.split(
      ' ',
    )) {
      expect(stdout).toContain(`  ${name} `)
      const help = await run([name, '--help'])
      expect([help.code, help.stdout.startsWith(`usage: akidb-embedding ${name}`)]).toEqual([0, true])
    }
    expect((await run(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  it.each([
    [['serv'], 2, "unknown command 'serv'; did you mean 'serve'?"],
    [['serve', '--prot', '1'], 2, "unknown flag '--prot'; did you mean '--port'?"],
    [['serve', '--port'], 2, '--port needs a value'],
    [['serve', '--port', 'abc'], 2, '--port is "abc"; it takes a whole number from 0 to 65535'],
    [['serve', '--config', '/nope.json'], 1, 'error FILE_UNREADABLE: cannot read /nope.json'],
    [['serve', '--model', '/nope'], 1, 'the folder /nope does not exist'],
    [['embed', '--model', '../nope', 'x'], 1, 'error MODEL_REFERENCE_INVALID'],
    [['pull', 'not a name'], 1, 'error MODEL_REFERENCE_INVALID'],
    [['serve', '--model', 'org/none', '--offline'], 1, 'error OFFLINE'],
    [['serve', '--api-keys-file', '/nope'], 1, 'error FILE_UNREADABLE: cannot read /nope'],
    [['serve', '--tls-cert', '/nope'], 2, 'tlsCert is given without tlsKey; give both or none'],
    [['pull-runtime', 'cuda'], 2, "unknown runtime 'cuda'; known is openvino"],
    [['embed'], 2, 'give texts as arguments or a file with --input'],
    [['embed', '--input', 'a.txt'], 2, '--input needs --output'],
  ])('%j ends with %i and says what to do', async (args, code, message) => {
    const result = await run(args)
    expect(result.stderr).toContain(message)
    expect([result.code, result.stdout]).toEqual([code, ''])
  })

  it('reads the configuration file and the environment', async () => {
    const path = join(folder, 'config.json')
    await writeFile(path, JSON.stringify({ maxBatchSise: 4 }))
    const result = await run(['serve', ...shared, '--config', path])
    expect(result.stderr).toContain(
      `${path} has the unknown key 'maxBatchSise'; did you mean 'maxBatchSize'?`,
    )
    const environment = await run(['serve', ...shared], { env: { AKIDB_PORT: '-1' } })
    expect(environment.stderr).toContain('AKIDB_PORT is -1')
  })
})

describe('embed', () => {
  it('prints one JSON line a text', async () => {
    const { code, stdout } = await run(['embed', ...shared, 'the cat', 'a dog'])
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { text: string; embedding: number[] })
    expect([code, lines.map((line) => [line.text, line.embedding.length])]).toEqual([
      0,
      [
        ['the cat', 32],
        ['a dog', 32],
      ],
    ])
  })

  it('reads a CSV file and stdin, writes .jsonl and .npy, the same vectors in each', async () => {
    const input = join(folder, 'docs.csv')
    await writeFile(input, 'id,body\n7,the cat\n8,"a dog, and a cat"\n')
    const jsonl = join(folder, 'docs.jsonl')
    const result = await run([
      'embed',
      ...shared,
      '--input',
      input,
      '--text-column',
      'body',
      '--id-column',
      'id',
      '--output',
      jsonl,
    ])
    expect([result.code, result.stdout.split('\n')[0]]).toEqual([0, `2 vectors of 32 in ${jsonl}`])
    const rows = (await readFile(jsonl, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; embedding: number[] })
    expect(rows.map((row) => row.id)).toEqual(['7', '8'])

    const npy = join(folder, 'docs.npy')
    const stdin = 'the cat\na dog, and a cat\n'
    expect((await run(['embed', ...shared, '--input', '-', '--output', npy], { stdin })).code).toBe(0)
    const bytes = await readFile(npy)
    const values = new Float32Array(
      bytes.buffer.slice(bytes.byteOffset + 128, bytes.byteOffset + bytes.length),
    )
    expect([...values]).toEqual(rows.flatMap((row) => row.embedding.map((value) => Math.fround(value))))
  })

  it('names the line that cannot be embedded', async () => {
    const input = join(folder, 'holes.txt')
    await writeFile(input, 'one\n\nthree\n')
    const result = await run(['embed', ...shared, '--input', input, '--output', join(folder, 'holes.npy')])
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(`${input}: line 2`)])
  })

  it('refuses a model whose weights were cut short, and stays coded', async () => {
    const broken = join(folder, 'broken')
    await writeTinyBert(broken)
    await truncate(join(broken, 'model.safetensors'), 5000)
    const result = await run(['embed', ...shared, '--model', broken, 'x'])
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringMatching(/error MODEL_FILE_CORRUPT: .*model\.safetensors/),
    ])
  })
})

describe('doctor', () => {
  it('tells which engines start and ends with 0', async () => {
    const { code, stdout } = await run(['doctor', '--json', ...shared])
    const findings = JSON.parse(stdout) as { level: string; subject: string; text: string }[]
    expect(code).toBe(0)
    expect(findings).toContainEqual(expect.objectContaining({ subject: 'engine onnx fp32', level: 'ok' }))
    expect(findings).toContainEqual(
      expect.objectContaining({ subject: expect.stringMatching(/^gpu( 0)?$/) as string }),
    )
    expect(findings).toContainEqual(
      expect.objectContaining({
        subject: 'openvino library',
        level: 'note',
        fix: 'akidb-embedding pull-runtime openvino',
      }),
    )
  })
})

describe('serve', () => {
  async function start(
    args: readonly string[],
  ): Promise<{ child: ChildProcess; url: string; output: () => string; ended: Promise<number | null> }> {
    const child = spawn(process.execPath, [main, 'serve', ...shared, ...args], {
      env: { PATH: process.env['PATH'], HOME: folder },
    })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    const ended = new Promise<number | null>((resolve) => child.on('exit', (code) => resolve(code)))
    await expect
      .poll(() => output, { timeout: 20_000 })
      .toMatch(/example {2}similarity[^]*\d\.\d{3} {2}Der Mond/)
    return { child, url: /ready {4}(http:\S+)/.exec(output)![1]!, output: () => output, ended }
  }

  it('prints the URL, a curl line and a worked example, and ends with 0 on SIGTERM with nothing lost', async () => {
    const { child, url, output, ended } = await start(['--port', '0'])
    expect(output()).toContain(`curl -s ${url}/v1/embeddings`)
    const body = JSON.stringify({ inputs: Array.from({ length: 1500 }, () => 'the cat and the dog') })
    const answer = fetch(`${url}/embed`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    await new Promise((resolve) => setTimeout(resolve, 30))
    child.kill('SIGTERM')
    expect(((await (await answer).json()) as unknown[]).length).toBe(1500)
    expect(await ended).toBe(0)
  })

  it('names the host that is not of this machine', async () => {
    // TEST-NET-1 of RFC 5737
    const result = await run(['serve', ...shared, '--host', '192.0.2.1'])
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringMatching(/error LISTEN_FAILED: cannot listen on host 192\.0\.2\.1.*EADDRNOTAVAIL/),
    ])
  })

  it('names the port that is in use', async () => {
    const blocker = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => blocker.once('listening', resolve))
    const { port } = blocker.address() as AddressInfo
    const result = await run(['serve', ...shared, '--port', String(port)])
    blocker.close()
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringContaining(`error PORT_IN_USE: port ${port} on 127.0.0.1 is in use`),
    ])
  })
})
