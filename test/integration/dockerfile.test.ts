/** The Dockerfile's own steps on a fresh clone. The build of the image is Docker's and not tested. */
import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseDockerfile, runStages } from '../fixtures/dockerfile.ts'
import { startServe } from '../fixtures/serve-process.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)
const stages = parseDockerfile(await readFile(join(repository, 'Dockerfile'), 'utf8'))

let root: string
beforeAll(async () => (root = await mkdtemp(join(tmpdir(), 'akidb-docker-'))))
afterAll(() => rm(root, { recursive: true, force: true }))

it('pins its bases, runs as a user without rights and has a health check', () => {
  for (const { base } of stages)
    expect(base).toMatch(/^[\w/]+:\d+\.\d+\S*-slim-bookworm$|^node:\d+\.\d+\.\d+-bookworm-slim$/)
  const last = stages.at(-1)!.instructions
  const textOf = (name: string) => last.find((instruction) => instruction.name === name)?.text
  expect([textOf('USER'), textOf('ENTRYPOINT'), textOf('CMD')]).toEqual([
    'node',
    '["node", "dist/cli/bin.cjs"]',
    '["serve"]',
  ])
  expect(textOf('HEALTHCHECK')).toMatch(/\/livez/)
})

it(
  'builds a server that starts on the fetched OpenVINO runtime and passes its health check',
  { timeout: 240_000 },
  async (test) => {
    const context = join(root, 'clone')
    await run('git', ['clone', '--quiet', repository, context])
    const environment = { ...withoutOwnSettings(process.env), HOME: join(root, 'home') }
    await mkdir(environment.HOME)
    const folders = join(root, 'stages')
    const variables = await runStages(stages, { context, root: folders, environment }).catch(
      (error: Error) => {
        if (/ENOTFOUND|ETIMEDOUT|ECONNREFUSED|EAI_AGAIN|DOWNLOAD_FAILED/.test(error.message)) {
          test.skip(`the package registries cannot be reached: ${error.message}`)
        }
        throw error
      },
    )

    const image = join(folders, 'final')
    await access(join(folders, 'outside', 'cache'))
    await access(join(image, 'dist/engines/cuda/kernels/rows.cuh'))
    await access(join(image, 'dist/engines/cuda/kernels/swiglu.cu'))
    await expect(access(join(image, 'node_modules/vitest'))).rejects.toThrow('ENOENT')
    const model = join(root, 'model')
    await writeTinyBert(model)
    const port = await findFreePort()
    const inImage = {
      ...variables,
      HOME: environment.HOME,
      AKIDB_HOST: '127.0.0.1',
      AKIDB_PORT: String(port),
      AKIDB_CACHE_DIR: join(root, 'cache'),
      AKIDB_OPENVINO_LIBRARY: variables['AKIDB_OPENVINO_LIBRARY']!.replace('/app', image),
      AKIDB_MODEL: model,
      AKIDB_ENGINE: 'openvino',
      AKIDB_PRECISION: 'fp32',
      AKIDB_OFFLINE: 'true',
    }
    await using serve = await startServe([], inImage, join(image, 'dist/cli/bin.cjs'))
    expect(serve.output()).toMatch(/engine {3}openvino/)
    const command = stages
      .at(-1)!
      .instructions.find(({ name }) => name === 'HEALTHCHECK')!
      .text.split(' CMD ')[1]!
    const check = () =>
      run('sh', ['-c', command], { env: { PATH: process.env['PATH'], ...inImage } }).then(
        () => 'healthy',
        () => 'unhealthy',
      )
    expect(await check()).toBe('healthy')
    serve.child.kill('SIGTERM')
    expect(await serve.ended).toBe(0)
    expect(await check()).toBe('unhealthy')
  },
)

/** Without what `npm test` and this program would take for orders; mirrors and proxies stay. */
function withoutOwnSettings(environment: NodeJS.ProcessEnv): Record<string, string> {
  const isOrder =
    /^(AKIDB_|XDG_CACHE_HOME$|NODE_ENV$|npm_(?!config_(userconfig|globalconfig|cache|registry|cafile|\w*proxy)$))/i
  return Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => !isOrder.test(entry[0])),
  )
}

function findFreePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
}
