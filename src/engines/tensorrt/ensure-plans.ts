/** The plans that settings ask for: from the cache, or built once, whichever process asks. */
import { EmbedError } from '../../errors.ts'
import type { TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import { readLinearNodes } from '../../model/onnx/linear-nodes.ts'
import { withLock } from '../../model/pull/lock.ts'
import { buildPlan } from './builder.ts'
import { entryFolder, readEngine, setAside, writeEngine } from './engine-cache.ts'
import { type EngineIdentity, toIdentity, toMachineIdentity } from './engine-identity.ts'
import type { Plan, PlanSettings } from './plan.ts'
import { checkEngine, withEngine } from './plan-check.ts'

/** Where the ONNX file of a plan comes from. */
export interface OnnxSource {
  /** What decides on its content: the model's and the export's options. Known before there is a file. */
  readonly key: string
  /** Makes the file where it is not there yet. @returns its path */
  readonly ensure: (options: {
    readonly onProgress?: (done: { readonly ratio: number | undefined }) => void
    readonly signal?: AbortSignal | undefined
  }) => Promise<string>
}

export interface FindPlansOptions {
  /** What the user calls the model. */
  readonly modelName: string
  readonly onnx: OnnxSource
  readonly settings: PlanSettings
  readonly machine: TensorrtMachine
  /** Folder of plans and timings. */
  readonly cachePath: string
}

export interface PlanProgress {
  /** Place of the plan among `plans`, from 1. */
  readonly plan: number
  readonly plans: number
  readonly stage: 'wait' | 'export' | 'parse' | 'build' | 'check' | 'write'
  /** While it builds, in TensorRT's words; while it waits, whom for. */
  readonly phase?: string
  /** Of the stage, 0 to 1. */
  readonly ratio?: number | undefined
  readonly remainingMs?: number | undefined
}

export interface EnsurePlansOptions extends FindPlansOptions {
  /** Build although the cache has it; the old plan becomes a backup. */
  readonly rebuild?: boolean
  readonly onProgress?: ((progress: PlanProgress) => void) | undefined
  readonly onNote?: ((note: string) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface WantedPlan {
  readonly identity: EngineIdentity
  /** Its place in the cache. */
  readonly folder: string
  /** Settings with the profiles of this engine alone. */
  readonly settings: PlanSettings
}

/** What would be built, and where: one engine, or one a name of a profile. */
export function listWantedPlans(options: FindPlansOptions): WantedPlan[] {
  const { settings, cachePath, modelName, onnx, machine } = options
  const names = [...new Set(settings.profiles.map(({ name }) => name))]
  const groups = settings.enginePerProfile
    ? names.map((name) => settings.profiles.filter((profile) => profile.name === name))
    : [settings.profiles]
  return groups.map((profiles) => {
    const own = { ...settings, profiles }
    const identity = toIdentity(modelName, onnx.key, own, toMachineIdentity(machine))
    return { identity, folder: entryFolder(cachePath, identity), settings: own }
  })
}

/** The plans, all of them or none; `reasons` tells why one is missing. Builds nothing. */
export async function findPlans(
  options: FindPlansOptions,
): Promise<{ readonly plans: readonly Plan[] | undefined; readonly reasons: readonly string[] }> {
  const answers = await Promise.all(
    listWantedPlans(options).map(({ identity }) => readEngine(options.cachePath, identity)),
  )
  const plans = answers.flatMap(({ plan }) => plan ?? [])
  const reasons = answers.flatMap((answer) => (answer.plan === undefined ? [answer.reason] : []))
  return { plans: reasons.length === 0 ? plans : undefined, reasons }
}

/** The plans, built where the cache has none that fits. Never inside a request: it takes minutes.
 * @throws {EmbedError} ONNX_NOT_PARSED, ENGINE_BUILD_FAILED, PLAN_UNUSABLE, CACHE_LOCKED, REQUEST_CANCELLED, NO_SPACE,
 * FILE_UNWRITABLE; and what the export throws */
export async function ensurePlans(options: EnsurePlansOptions): Promise<readonly Plan[]> {
  const wanted = listWantedPlans(options)
  const plans: Plan[] = []
  for (const [index, each] of wanted.entries()) {
    const tell = (progress: Omit<PlanProgress, 'plan' | 'plans'>): void =>
      options.onProgress?.({ ...progress, plan: index + 1, plans: wanted.length })
    plans.push(await ensurePlan(each, options, tell))
  }
  return plans
}

type Tell = (progress: Omit<PlanProgress, 'plan' | 'plans'>) => void

async function ensurePlan(wanted: WantedPlan, options: EnsurePlansOptions, tell: Tell): Promise<Plan> {
  const { cachePath, rebuild = false, signal, onNote = () => {} } = options
  const found = await readEngine(cachePath, wanted.identity)
  if (found.plan !== undefined && !rebuild) return found.plan
  // A build of 36 layers takes a minute, one of level 5 many.
  const maxWaitMs = 3 * 3_600_000
  const onWait = (holder: string): void => tell({ stage: 'wait', phase: holder })
  return withLock(`${wanted.folder}.lock`, { signal, maxWaitMs, onWait }, async () => {
    const again = await readEngine(cachePath, wanted.identity)
    // Another process built it while this one waited.
    if (again.plan !== undefined && (!rebuild || found.plan === undefined)) return again.plan
    if (again.plan === undefined) {
      const backup = await setAside(wanted.folder)
      if (backup !== undefined) onNote(`${again.reason}; kept as ${backup} until 'engines prune', built anew`)
    }
    return buildEngine(wanted, options, tell)
  })
}

async function buildEngine(wanted: WantedPlan, options: EnsurePlansOptions, tell: Tell): Promise<Plan> {
  const { onnx, machine, cachePath, signal, onNote } = options
  const { settings, identity, folder } = wanted
  tell({ stage: 'export' })
  const onnxPath = await onnx.ensure({ signal, onProgress: ({ ratio }) => tell({ stage: 'export', ratio }) })
  const linearNodes = await readLinearNodes(onnxPath)
  tell({ stage: 'parse' })
  using built = await buildPlan({
    machine,
    onnxPath,
    settings,
    cachePath,
    onNote,
    signal,
    onProgress: (share) => tell({ stage: 'build', ...share }),
  })
  tell({ stage: 'check' })
  const { plan, builtInMs, tacticSources, loadedLibraries } = built
  const layers = await withEngine(folder, plan, machine.tensorrt, (engine) => {
    checkEngine(engine, { path: folder, ...settings })
    return engine.inspect()
  })
  if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {})
  tell({ stage: 'write' })
  // Awaited here: the bytes are gone with `built`.
  return await writeEngine(cachePath, identity, {
    plan,
    layers,
    builtInMs,
    tacticSources,
    loadedLibraries,
    linearNodes,
  })
}
