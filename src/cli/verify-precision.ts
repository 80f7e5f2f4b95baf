/** verify-precision: what became of each linear layer, by TensorRT's inspector. */
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { layersPath, readRecord } from '../engines/tensorrt/engine-cache.ts'
import { findPlans } from '../engines/tensorrt/ensure-plans.ts'
import { findLinearLayers, type Layer, parseLayers, summariseLayers } from '../engines/tensorrt/inspector.ts'
import { withEngine } from '../engines/tensorrt/plan-check.ts'
import { judgePrecision } from '../engines/tensorrt/precision-verdict.ts'
import { EmbedError, toReason } from '../errors.ts'
import { MappedFile } from '../hardware/ffi/mapped-file.ts'
import { readLinearNodes } from '../model/onnx/linear-nodes.ts'
import type { Command, CommandInput } from './command.ts'
import { openModel } from './open-model.ts'
import { choosePlans, openMachine, planKnobs, machineKnobs } from './tensorrt-target.ts'

export const verifyPrecisionCommand: Command = {
  name: 'verify-precision',
  summary: 'Tell the precision that each linear layer of a TensorRT engine really runs in',
  usage: 'verify-precision [name|folder] [flags]',
  details: [
    '  akidb-embedding verify-precision ./qwen3 --precision fp8      the engines that build made, exit code 1 unless all FP8',
    '  akidb-embedding verify-precision --plan FILE --onnx FILE --precision fp8',
    "  akidb-embedding verify-precision --layers FILE                a JSON that TensorRT's inspector wrote; needs no GPU",
  ],
  knobs: ['model', ...planKnobs, 'plan', ...machineKnobs],
  flags: {
    onnx: {
      type: 'string',
      placeholder: 'file',
      description:
        'The ONNX file that --plan or --layers came from: its linear layers are looked for by name',
    },
    layers: { type: 'string', placeholder: 'file', description: "Read the inspector's JSON from a file" },
    all: { type: 'boolean', description: 'List every layer, not only the linear ones' },
    json: { type: 'boolean', description: 'Print one JSON document instead' },
  },
  async run(input) {
    const wanted = input.config.precision
    const engines = await readEngines(input)
    let isGood = true
    for (const { name, layers, linearNodes } of engines) {
      const linear = findLinearLayers(layers, linearNodes)
      const verdict = judgePrecision(wanted, layers, linear)
      isGood &&= verdict.isGood
      const summary = summariseLayers(layers)
      if (input.flags['json'] === true) {
        process.stdout.write(`${JSON.stringify({ name, ...summary, linear, verdict }, undefined, 1)}\n`)
        continue
      }
      const listed = input.flags['all'] === true ? formatLayers(layers) : formatLinear(linear)
      process.stdout.write(
        [
          name,
          ...listed,
          '',
          `layers     ${summary.layers}, ${summary.gemms} matrix products: ${formatCounts(summary.gemmsByPrecision)}`,
          `attention  ${summary.fusedAttentions === 0 ? 'not fused' : `${summary.fusedAttentions} fused kernels in ${summary.profiles} profiles`}`,
          `verdict    ${verdict.text}`,
          '',
        ].join('\n'),
      )
    }
    return isGood ? 0 : 1
  },
}

interface InspectedEngine {
  readonly name: string
  readonly layers: readonly Layer[]
  readonly linearNodes: readonly string[]
}

async function readEngines(input: CommandInput): Promise<InspectedEngine[]> {
  const { flags, config } = input
  const onnx = flags['onnx'] as string | undefined
  const linearNodes = onnx === undefined ? [] : await readLinearNodes(onnx)
  const layersFile = flags['layers'] as string | undefined
  if (layersFile !== undefined) {
    return [{ name: layersFile, layers: parseLayers(await read(layersFile)), linearNodes }]
  }
  if (config.plan !== undefined) {
    const machine = await openMachine(input)
    using file = new MappedFile(config.plan)
    const json = await withEngine(config.plan, file, machine.tensorrt, (engine) => engine.inspect())
    return [{ name: config.plan, layers: parseLayers(json), linearNodes }]
  }
  const spec = await openModel(input)
  const { plans, reasons } = await findPlans(await choosePlans(input, spec, await openMachine(input)))
  if (plans === undefined) {
    const fix = `'akidb-embedding build' with the same flags makes it`
    throw new EmbedError('PLAN_UNUSABLE', { path: `of ${spec.id}`, reason: reasons.join('; '), fix })
  }
  return Promise.all(
    plans.map(async ({ path }) => ({
      name: path,
      layers: parseLayers(await read(layersPath(path))),
      linearNodes: (await readRecord(dirname(path)))?.linearNodes ?? [],
    })),
  )
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  }
}

function formatLinear(linear: readonly { node: string; precision: string; tactic: string }[]): string[] {
  const width = Math.max(0, ...linear.map(({ node }) => node.length))
  return linear.map(
    ({ node, precision, tactic }) => `  ${node.padEnd(width)}  ${precision.padEnd(8)} ${tactic}`,
  )
}

function formatLayers(layers: readonly Layer[]): string[] {
  return layers.map(
    ({ name, type, precision, tactic }) =>
      `  ${precision.padEnd(8)} ${type.padEnd(12)} ${tactic || '-'}  ${name}`,
  )
}

function formatCounts(counts: Readonly<Record<string, number | undefined>>): string {
  const parts = Object.entries(counts).map(([precision, count]) => `${count} ${precision}`)
  return parts.length === 0 ? 'none' : parts.join(', ')
}
