/** Holds the import rules: a wing imports the wings to its right and the common ground, never to its left. */
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const src = fileURLToPath(new URL('../src', import.meta.url))

/** Room -> what it may import besides its own files. The first entry that matches a file is its room. */
const rules: readonly { room: string; imports: readonly string[] }[] = [
  { room: 'errors.ts', imports: [] },
  { room: 'float32-text.ts', imports: ['errors.ts'] },
  { room: 'telemetry/', imports: [] },
  { room: 'config/', imports: ['errors.ts'] },
  { room: 'model/', imports: ['errors.ts', 'config/'] },
  { room: 'hardware/resource-scope.ts', imports: [] },
  { room: 'hardware/native-resource.ts', imports: ['errors.ts', 'hardware/resource-scope.ts'] },
  {
    // C++ objects: they have lifetimes.
    room: 'hardware/ffi/tensorrt/',
    imports: ['errors.ts', 'hardware/ffi/', 'hardware/resource-scope.ts', 'hardware/native-resource.ts'],
  },
  { room: 'hardware/ffi/', imports: ['errors.ts'] },
  {
    room: 'hardware/gpu/',
    imports: ['errors.ts', 'hardware/ffi/', 'hardware/resource-scope.ts', 'hardware/native-resource.ts'],
  },
  { room: 'hardware/machine/', imports: ['errors.ts', 'hardware/ffi/', 'hardware/gpu/'] },
  { room: 'engines/engine.ts', imports: ['telemetry/metric-source.ts'] },
  { room: 'engines/vectors.ts', imports: [] },
  { room: 'engines/quantize-vectors.ts', imports: [] },
  {
    room: 'engines/pooling/',
    imports: ['errors.ts', 'model/', 'engines/vectors.ts', 'engines/rectangular/padding.ts'],
  },
  {
    room: 'engines/rectangular/',
    imports: ['errors.ts', 'model/', 'engines/engine.ts', 'engines/vectors.ts', 'engines/pooling/'],
  },
  { room: 'engines/calibration/', imports: ['errors.ts', 'model/'] },
  ...['onnx', 'openvino'].map((engine) => ({
    room: `engines/${engine}/`,
    imports: [
      'errors.ts',
      'model/',
      'hardware/',
      'engines/engine.ts',
      'engines/rectangular/',
      'engines/calibration/',
    ],
  })),
  {
    room: 'engines/tensorrt/',
    imports: [
      'errors.ts',
      'config/',
      'model/',
      'telemetry/metric-source.ts',
      'hardware/',
      'engines/engine.ts',
      'engines/vectors.ts',
      'engines/pooling/',
      'engines/rectangular/',
    ],
  },
  {
    room: 'engines/cuda/',
    imports: [
      'errors.ts',
      'model/',
      'hardware/',
      'engines/engine.ts',
      'engines/vectors.ts',
      'engines/rectangular/open-library.ts',
    ],
  },
  { room: 'engines/', imports: ['errors.ts', 'model/', 'hardware/'] },
  { room: 'serving/tokenizer/', imports: ['errors.ts', 'model/', 'telemetry/'] },
  {
    room: 'serving/batching/',
    imports: ['errors.ts', 'telemetry/', 'engines/engine.ts', 'engines/vectors.ts'],
  },
  {
    room: 'serving/pipeline/',
    imports: [
      'errors.ts',
      'config/',
      'model/',
      'telemetry/',
      'engines/',
      'hardware/machine/',
      'serving/tokenizer/',
      'serving/batching/',
    ],
  },
  {
    room: 'serving/server/',
    imports: [
      'errors.ts',
      'float32-text.ts',
      'config/',
      'model/',
      'telemetry/',
      'engines/vectors.ts',
      'engines/quantize-vectors.ts',
      'serving/pipeline/',
      'serving/tokenizer/tokenizer.ts',
    ],
  },
  {
    room: 'bulk/',
    imports: ['errors.ts', 'float32-text.ts', 'config/', 'model/', 'telemetry/', 'serving/pipeline/'],
  },
  {
    room: 'tuning/measure/',
    imports: [
      'errors.ts',
      'model/',
      'telemetry/',
      'hardware/machine/',
      'serving/pipeline/',
      'serving/tokenizer/',
    ],
  },
  {
    room: 'tuning/quality/',
    imports: ['errors.ts', 'config/', 'engines/vectors.ts', 'serving/pipeline/', 'tuning/measure/corpus.ts'],
  },
  { room: 'tuning/limits/', imports: ['errors.ts', 'model/', 'engines/', 'hardware/machine/'] },
  {
    room: 'tuning/tuner/',
    imports: [
      'errors.ts',
      'config/',
      'hardware/machine/',
      'serving/pipeline/',
      'tuning/limits/',
      'tuning/measure/',
      'tuning/profiler/',
      'tuning/quality/',
    ],
  },
  {
    // It looks at engines and the pipeline from outside.
    room: 'tuning/profiler/',
    imports: [
      'errors.ts',
      'config/',
      'telemetry/',
      'hardware/',
      'engines/',
      'serving/pipeline/',
      'serving/server/create-server.ts',
      'tuning/limits/',
      'tuning/measure/',
    ],
  },
  { room: 'index.ts', imports: ['*'] },
  { room: 'cli/', imports: ['*'] },
]

/** Packages that only one file or room may name. */
const packageOwners: Readonly<Record<string, string>> = {
  koffi: 'hardware/ffi/library.ts',
  '@anush008/tokenizers': 'serving/tokenizer/',
  fastify: 'serving/server/',
  'prom-client': 'serving/server/',
  '@fastify/cors': 'serving/server/',
  '@opentelemetry/api': 'serving/server/tracing/',
  '@opentelemetry/core': 'serving/server/tracing/',
  '@opentelemetry/exporter-trace-otlp-proto': 'serving/server/tracing/',
  '@opentelemetry/resources': 'serving/server/tracing/',
  '@opentelemetry/sdk-trace-node': 'serving/server/tracing/',
  protobufjs: 'model/',
  hyparquet: 'bulk/',
  'hyparquet-writer': 'bulk/',
  'cli-progress': 'cli/',
  'onnxruntime-node': 'tuning/measure/plain-loop.ts',
}

const files = listSources(src)
const imports = files.flatMap((file) =>
  readImports(join(src, file)).map((specifier) => ({
    file,
    target: specifier.startsWith('.') ? normalize(join(dirname(file), specifier)) : specifier,
    isOwn: specifier.startsWith('.'),
  })),
)

describe('architecture', () => {
  it('every file stands in a room', () => {
    expect(files.filter((file) => roomOf(file) === undefined)).toEqual([])
  })

  it('no room is empty', () => {
    expect(
      rules.map((rule) => rule.room).filter((room) => !files.some((file) => roomOf(file)?.room === room)),
    ).toEqual([])
  })

  it('imports go right and down only', () => {
    const wrong = imports.filter(({ file, target, isOwn }) => {
      if (!isOwn) return false
      const rule = roomOf(file)!
      if (rule.imports.includes('*') || target.startsWith(rule.room)) return false
      return !rule.imports.some((allowed) => target.startsWith(allowed))
    })
    expect(wrong.map(({ file, target }) => `${file} -> ${target}`)).toEqual([])
  })

  it('a package with an owner is named only there', () => {
    const wrong = imports.filter(({ file, target, isOwn }) => {
      const name = target.startsWith('@') ? target.split('/').slice(0, 2).join('/') : target.split('/')[0]!
      const owner = packageOwners[name]
      return !isOwn && owner !== undefined && !file.startsWith(owner)
    })
    expect(wrong.map(({ file, target }) => `${file} -> ${target}`)).toEqual([])
  })

  it('only the program reads argv and the environment or ends the process', () => {
    const wrong = files.filter(
      (file) =>
        !file.startsWith('cli/') && /process\.(env|argv|exit\b)/.test(readFileSync(join(src, file), 'utf8')),
    )
    expect(wrong).toEqual([])
  })

  it('modules stay below 400 lines', () => {
    const long = files.filter((file) => readFileSync(join(src, file), 'utf8').split('\n').length > 400)
    expect(long).toEqual([])
  })
})

function roomOf(file: string): (typeof rules)[number] | undefined {
  return rules.find((rule) => file.startsWith(rule.room))
}

function listSources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts'))
    .map((entry) => relative(src, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
}

function readImports(path: string): string[] {
  const text = readFileSync(path, 'utf8')
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!)
}
