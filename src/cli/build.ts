/** build: a Hugging Face folder to TensorRT plans in the engine cache. */
import { dirname } from 'node:path'
import { listEngines, readEngine, readRecord } from '../engines/tensorrt/engine-cache.ts'
import { ensurePlans, type FindPlansOptions, listWantedPlans } from '../engines/tensorrt/ensure-plans.ts'
import type { Plan } from '../engines/tensorrt/plan.ts'
import { readPrebuiltPlan } from '../engines/tensorrt/plan-check.ts'
import { describeProfile } from '../engines/tensorrt/profiles.ts'
import type { Command } from './command.ts'
import { measureFlags, measureScales } from './measure-scales.ts'
import { openModel } from './open-model.ts'
import { formatPlanProgress } from './plan-progress.ts'
import { createProgressLine } from './progress-bar.ts'
import { choosePlans, openMachine, planKnobs, machineKnobs } from './tensorrt-target.ts'

export const buildCommand: Command = {
  name: 'build',
  summary: 'Build TensorRT engines of a model into the engine cache',
  usage: 'build [name|folder] [flags]',
  details: [
    '  akidb-embedding build BAAI/bge-small-en-v1.5 --precision fp16',
    '  akidb-embedding build ./qwen3 --precision fp8 --profiles low_latency=1/1/2 --profile-tokens 128,512',
    '',
    'An engine that is in the cache for these settings, this TensorRT, driver and GPU is not built again. A build that was',
    'stopped keeps its ONNX export and the timings it took: the same command goes on with them.',
    'With --plan FILE nothing is built: the file is loaded and checked against the model.',
  ],
  knobs: ['model', 'revision', ...planKnobs, 'plan', ...machineKnobs, 'offline', 'hfToken', 'hfEndpoint'],
  flags: {
    'dry-run': {
      type: 'boolean',
      description: 'Tell what would be built, and its key; build nothing (fp8: once its scales are there)',
    },
    rebuild: {
      type: 'boolean',
      description: 'Build although the cache has it; the old engine is kept as .bak',
    },
    ...measureFlags,
  },
  async run(input) {
    const spec = await openModel(input)
    const machine = await openMachine(input)
    const { device, tensorrt, driverVersion } = machine
    say(`gpu      ${device.name}, driver ${driverVersion}, TensorRT ${tensorrt.versionText}`)
    if (input.config.plan !== undefined) {
      const plan = await readPrebuiltPlan(input.config.plan, tensorrt, spec.dimensions)
      say(`plan     ${plan.path} fits ${spec.id}: ${describePlan(plan)}`)
      return 0
    }
    const isDryRun = input.flags['dry-run'] === true
    if (input.config.precision === 'fp8' && !isDryRun) await measureScales(input, spec)
    const options = await choosePlans(input, spec, machine)
    if (isDryRun) {
      await describeWanted(options)
      return 0
    }
    const line = createProgressLine(process.stderr)
    const plans = await ensurePlans({
      ...options,
      rebuild: input.flags['rebuild'] === true,
      signal: input.signal,
      onProgress: (progress) => line.update(formatPlanProgress(progress)),
      onNote: (note) => {
        line.stop()
        process.stderr.write(`${note}\n`)
      },
    }).finally(() => line.stop())
    for (const plan of plans) await describeBuilt(plan)
    await describeBackups(options.cachePath)
    return 0
  },
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function describeWanted(options: FindPlansOptions): Promise<void> {
  for (const { identity, folder, settings } of listWantedPlans(options)) {
    const { plan, ...answer } = await readEngine(options.cachePath, identity)
    const { tacticSources } = settings
    say(`engine   ${folder}`)
    say(
      `  ${plan === undefined ? `would be built: ${'reason' in answer ? answer.reason : ''}` : 'is in the cache'}`,
    )
    say(`  precision ${settings.precision}, in ${settings.inputs}, out ${settings.output}`)
    for (const profile of settings.profiles) say(`  profile  ${describeProfile(profile)}`)
    say(
      `  level ${settings.builderOptimizationLevel}, workspace ${settings.workspaceBytes / 2 ** 20} MiB, tactics ${tacticSources === 'default' ? 'default' : tacticSources.join(' ')}`,
    )
  }
}

async function describeBuilt(plan: Plan): Promise<void> {
  say(`engine   ${plan.path}`)
  say(`  ${describePlan(plan)}`)
  const record = await readRecord(dirname(plan.path))
  if (record === undefined) return
  say(`  tactics  ${record.tacticSources.join(' ')}`)
  say(`  loaded   ${record.loadedLibraries.join(' ')}`)
}

async function describeBackups(cachePath: string): Promise<void> {
  const backups = (await listEngines(cachePath)).filter(({ kind }) => kind === 'backup')
  if (backups.length === 0) return
  const sizeBytes = backups.reduce((sum, backup) => sum + backup.sizeBytes, 0)
  say(
    `backups  ${backups.length}, ${(sizeBytes / 1e6).toFixed(1)} MB; 'akidb-embedding engines prune' removes them`,
  )
}

function describePlan({
  precision,
  sizeBytes,
  builtInMs,
  fromCache,
  profiles,
  inputs,
  output,
}: Plan): string {
  const built = builtInMs === undefined ? '' : `built in ${(builtInMs / 1000).toFixed(1)} s, `
  const origin = fromCache ? 'from the cache, ' : ''
  return `${origin}${built}${(sizeBytes / 1e6).toFixed(1)} MB, ${precision}, ${inputs} -> ${output}, ${profiles.map(describeProfile).join('; ')}`
}
