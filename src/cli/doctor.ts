/** doctor: what this machine has, which engines start here, what is in the cache, and a fix for each finding. */
import { readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbedError, toReason } from '../errors.ts'
import { readCpu } from '../hardware/machine/cpu.ts'
import { findOpenvinoLibrary } from '../hardware/machine/openvino-library.ts'
import { openvinoRuntimeFolders } from '../model/pull/openvino-runtime.ts'
import { pullModel } from '../model/pull.ts'
import { startPipeline } from '../serving/pipeline/start-pipeline.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import type { Finding } from './finding.ts'
import { inspectGpus } from './inspect-gpus.ts'

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'Tell what this machine has, which engines start, and how to fix what is missing',
  usage: 'doctor [--json] [flags]',
  details: ['Exit code 1 when no engine can start.'],
  knobs: ['model', 'cacheDir', 'threads', 'openvinoLibrary'],
  flags: { json: { type: 'boolean', description: 'Print one JSON document instead' } },
  async run(input) {
    const findings = [
      ...inspectMachine(),
      ...(await inspectGpus(input)),
      ...(await inspectCache(input)),
      inspectOpenvino(input),
      ...(await inspectEngines(input)),
    ]
    if (input.flags['json'] === true) process.stdout.write(`${JSON.stringify(findings, null, 1)}\n`)
    else for (const finding of findings) process.stdout.write(format(finding))
    return findings.some((finding) => finding.subject.startsWith('engine') && finding.level === 'ok') ? 0 : 1
  },
}

function format({ level, subject, text, fix }: Finding): string {
  const mark = { ok: ' ok ', note: 'note', fail: 'FAIL' }[level]
  return `${mark}  ${subject.padEnd(18)} ${text}\n${fix === undefined ? '' : `${' '.repeat(25)}fix: ${fix}\n`}`
}

function inspectMachine(): Finding[] {
  const cpu = readCpu()
  const features = [...cpu.features].join(' ') || 'none of those that matter'
  const hasBf16 = [...cpu.features].some((feature) => feature.endsWith('BF16'))
  return [
    { level: 'ok', subject: 'node', text: `${process.version} ${process.platform} ${process.arch}` },
    {
      level: 'ok',
      subject: 'cpu',
      text: `${cpu.model}, ${cpu.usableCores} usable of ${cpu.logicalCores} logical cores`,
    },
    hasBf16
      ? { level: 'ok', subject: 'cpu features', text: features }
      : { level: 'note', subject: 'cpu features', text: `${features}; no bf16, so fp32 is used` },
  ]
}

async function inspectCache(input: CommandInput): Promise<Finding[]> {
  const cacheDir = chooseCacheDir(input)
  const models = await readdir(join(cacheDir, 'models')).catch(() => [])
  const disk = await statfs(cacheDir).catch(() => undefined)
  const free = disk === undefined ? '' : `, ${((disk.bavail * disk.bsize) / 1e9).toFixed(1)} GB free`
  const exists = (await stat(cacheDir).catch(() => undefined)) !== undefined
  const findings: Finding[] = [
    { level: 'ok', subject: 'cache', text: `${cacheDir}${exists ? free : ' (not made yet)'}` },
  ]
  const { model } = input.config
  try {
    const pulled = await pullModel(model, {
      cacheDir,
      offline: true,
      revision: input.config.revision,
    })
    findings.push({ level: 'ok', subject: 'model', text: `${model} in ${pulled.folder}` })
  } catch (error) {
    const fix = `akidb-embedding pull ${model}`
    findings.push({ level: 'note', subject: 'model', text: toReason(error), fix })
  }
  const names = models.map((name) => name.replace('--', '/'))
  return [...findings, { level: 'ok', subject: 'models in cache', text: names.join(', ') || 'none' }]
}

function inspectOpenvino(input: CommandInput): Finding {
  const folders = openvinoRuntimeFolders(chooseCacheDir(input))
  const { found, searched } = findOpenvinoLibrary({ explicitPath: input.config.openvinoLibrary, folders })
  if (found !== undefined) {
    return {
      level: 'ok',
      subject: 'openvino library',
      text: `${found.version ?? 'version unknown'} in ${found.path}`,
    }
  }
  const fix = 'akidb-embedding pull-runtime openvino'
  return {
    level: 'note',
    subject: 'openvino library',
    text: `not found; searched ${searched.join(', ')}`,
    fix,
  }
}

/** Starts each engine for real, on what is already here. */
async function inspectEngines(input: CommandInput): Promise<Finding[]> {
  const findings: Finding[] = []
  const candidates = [
    { engine: 'openvino', precision: 'bf16' },
    { engine: 'openvino', precision: 'fp32' },
    { engine: 'onnx', precision: 'fp32' },
  ] as const
  for (const candidate of candidates) {
    const subject = `engine ${candidate.engine} ${candidate.precision}`
    try {
      const config = { ...input.config, ...candidate, offline: true, tokenizerWorkers: 0 }
      const { pipeline, startup } = await startPipeline(config, {
        cacheDir: chooseCacheDir(input),
        signal: input.signal,
      })
      await using owned = pipeline
      const { golden, durationMs } = startup
      const checked =
        golden.source === 'none' ? 'not checked' : `worst cosine ${golden.worstCosine.toFixed(6)}`
      const text = `starts in ${(durationMs / 1000).toFixed(1)} s on ${owned.engine.info.device}; ${checked}`
      findings.push({ level: 'ok', subject, text })
    } catch (error) {
      if (error instanceof EmbedError && error.code === 'OFFLINE') {
        const fix = `akidb-embedding pull ${input.config.model}`
        findings.push({ level: 'note', subject, text: 'not tried: the model is not in the cache', fix })
      } else findings.push({ level: 'fail', subject, text: toReason(error) })
    }
  }
  return findings
}
