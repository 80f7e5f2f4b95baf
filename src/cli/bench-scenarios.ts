/** What bench's flags ask for: texts and loads. */
import { basename } from 'node:path'
import { readCorpus } from '../bulk/read-corpus.ts'
import { EmbedError } from '../errors.ts'
import type { Scenario } from '../tuning/measure/bench.ts'
import {
  type CountTokens,
  type Workload,
  makeFixedLengthWorkload,
  makeMixedWorkload,
  makeTextsWorkload,
} from '../tuning/measure/workload.ts'
import type { CommandInput } from './command.ts'
import { parsePositiveNumber, readNumberFlag } from './number-flag.ts'

/** Every workload under every load. @throws {EmbedError} WORKLOAD_INVALID, FILE_UNREADABLE, FILE_FORMAT, USAGE */
export async function makeScenarios(
  input: CommandInput,
  loads: readonly NamedLoad[],
  countTokens: CountTokens,
): Promise<Scenario[]> {
  const workloads = await makeWorkloads(input, countTokens)
  return workloads.flatMap((workload) =>
    loads.map(({ name, load }) => ({ name: `${workload.name}, ${name}`, workload, load })),
  )
}

export interface NamedLoad {
  readonly name: string
  readonly load: Scenario['load']
}

async function makeWorkloads(input: CommandInput, countTokens: CountTokens): Promise<Workload[]> {
  const textsPerRequest = readNumberFlag(input.flags, 'texts-per-request', 1)
  const workloads: Workload[] = []
  for (const choice of input.lists['texts'] ?? ['64', 'mix']) {
    workloads.push(await makeWorkload(choice, { countTokens, textsPerRequest }))
  }
  return workloads
}

/** @param choice a number of tokens, 'mix', or a file of texts
 * @throws {EmbedError} WORKLOAD_INVALID, FILE_UNREADABLE, FILE_FORMAT */
export async function makeWorkload(
  choice: string,
  options: { readonly countTokens: CountTokens; readonly textsPerRequest: number },
): Promise<Workload> {
  if (choice === 'mix') return makeMixedWorkload(options)
  if (/^\d+$/.test(choice)) return makeFixedLengthWorkload(Number(choice), options)
  const texts: string[] = []
  for await (const { text } of readCorpus(choice, { onEmpty: 'skip' })) texts.push(text)
  return makeTextsWorkload(basename(choice), texts, options)
}

/** @throws {EmbedError} USAGE */
export function readLoads(flags: CommandInput['flags']): NamedLoad[] {
  const arrivals = flags['arrivals'] ?? 'poisson'
  if (arrivals !== 'poisson' && arrivals !== 'constant') {
    throw new EmbedError('USAGE', { reason: `--arrivals is '${arrivals}'; it takes poisson or constant` })
  }
  if (flags['rate'] !== undefined) {
    if (flags['clients'] !== undefined) {
      throw new EmbedError('USAGE', {
        reason: 'give --clients (closed loop) or --rate (open loop), one of the two',
      })
    }
    const requestsPerSecond = readNumberFlag(flags, 'rate', 1)
    return [
      {
        name: `${requestsPerSecond} requests/s ${arrivals}`,
        load: { kind: 'open', requestsPerSecond, arrivals },
      },
    ]
  }
  return String(flags['clients'] ?? '1,4,16')
    .split(',')
    .map((text) => {
      const clients = parsePositiveNumber('clients', text)
      if (!Number.isInteger(clients)) {
        throw new EmbedError('USAGE', { reason: `--clients has '${text}'; it takes whole numbers` })
      }
      return { name: `${clients} client${clients === 1 ? '' : 's'}`, load: { kind: 'closed', clients } }
    })
}
