// Installs and builds what is missing, then runs the program or the tests. Needs nothing but Node and npm.
//   node scripts/setup.mjs serve [flags]     what `npm start` calls
//   node scripts/setup.mjs test [vitest args]    what `npm test` calls
//   node scripts/setup.mjs tune [flags]    what `npm run tune` calls
//   node scripts/setup.mjs run COMMAND [flags]   any other command of the program
import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const [task = 'serve', ...rest] = process.argv.slice(2)

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`Node ${process.versions.node} is too old; akidb-embedding needs 20.19 or newer`)
}

install()
build()
const main = join(root, 'dist/cli/bin.cjs')
if (task === 'test') {
  // The real model and the fast runtime, for the tests that need them; those skip by name where they cannot be had.
  for (const args of [['pull'], ['pull-runtime', 'openvino']])
    spawnSync(process.execPath, [main, ...args], { cwd: root, stdio: 'inherit' })
  run(join(root, 'node_modules/vitest/vitest.mjs'), ['run', ...rest])
} else if (task === 'serve') run(main, ['serve', '--fetch-runtime', ...rest])
else if (task === 'tune') {
  // The fast engine is one of the candidates; where it cannot be had the report says so.
  spawnSync(process.execPath, [main, 'pull-runtime', 'openvino'], { cwd: root, stdio: 'inherit' })
  run(main, ['tune', ...rest])
} else run(main, rest)

/** node_modules is complete when it carries the hash of the lockfile it was made from. */
function install() {
  const stamp = join(root, 'node_modules/.akidb-lock-hash')
  const hash = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return
  say('installing dependencies')
  // Install scripts stay off: neither koffi nor onnxruntime-node needs its own.
  const npm = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
    shell: process.platform === 'win32',
  })
  if (npm.status !== 0) fail("'npm ci' failed; its message stands above")
  // The type-aware linter is packed without its executable bit.
  for (const name of readdirSync(join(root, 'node_modules/@oxlint-tsgolint'))) {
    const binary = join(root, 'node_modules/@oxlint-tsgolint', name, 'tsgolint')
    if (existsSync(binary)) chmodSync(binary, 0o755)
  }
  writeFileSync(stamp, hash)
}

/** Builds when a source is newer than the last build. */
function build() {
  const stamp = join(root, 'dist/.built')
  const sources = [
    join(root, 'tsconfig.build.json'),
    join(root, 'tsconfig.json'),
    ...listFiles(join(root, 'src')),
  ]
  const newestMs = Math.max(...sources.map((path) => statSync(path).mtimeMs))
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= newestMs) return
  say('building')
  rmSync(join(root, 'dist'), { recursive: true, force: true })
  const tsc = spawnSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'],
    {
      cwd: root,
      stdio: 'inherit',
    },
  )
  if (tsc.status !== 0) fail('the build failed; the compiler says why above')
  // The GPU's kernels are compiled where they run.
  cpSync(join(root, 'src'), join(root, 'dist'), {
    recursive: true,
    filter: (path) => statSync(path).isDirectory() || /\.cuh?$/.test(path),
  })
  writeFileSync(stamp, '')
}

function run(script, args) {
  const child = spawn(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)))
}

function listFiles(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? listFiles(join(folder, entry.name)) : [join(folder, entry.name)],
  )
}

function say(what) {
  process.stderr.write(`akidb-embedding: ${what}\n`)
}

function fail(why) {
  process.stderr.write(`akidb-embedding: ${why}\n`)
  process.exit(1)
}
