/** What is put before a text: one of the model's prompts, with the caller's instruction in it where it has room for one. */
import type { Config } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import type { ModelSpec } from '../../model/spec.ts'

/** Qwen3-Embedding, E5-Mistral and their kin. @see huggingface.co/Qwen/Qwen3-Embedding-0.6B */
const instructionTemplate = /^(Instruct: )[^]*(\nQuery: ?)$/

/** The configuration's default prompt in place of the model's.
 * @throws {EmbedError} CONFIG_INVALID both are given, or the model has no prompt of that name */
export function withDefaultPrompt<Spec extends Pick<ModelSpec, 'prompts' | 'defaultPromptName'>>(
  spec: Spec,
  { defaultPrompt, defaultPromptName }: Pick<Config, 'defaultPrompt' | 'defaultPromptName'>,
): Spec {
  if (defaultPrompt !== undefined) {
    if (defaultPromptName !== undefined) {
      throw new EmbedError('CONFIG_INVALID', { reason: 'give defaultPrompt or defaultPromptName, not both' })
    }
    // No prompt of a model is called so.
    const name = '--default-prompt'
    return { ...spec, prompts: { ...spec.prompts, [name]: defaultPrompt }, defaultPromptName: name }
  }
  if (defaultPromptName === undefined) return spec
  if (!Object.hasOwn(spec.prompts, defaultPromptName)) {
    const known = Object.keys(spec.prompts).join(', ') || 'none'
    const reason = `defaultPromptName is '${defaultPromptName}'; the model's prompts are ${known}`
    throw new EmbedError('CONFIG_INVALID', { reason })
  }
  return { ...spec, defaultPromptName }
}

/** `promptName` wins over the model's default; an instruction takes the place of the one in that prompt, or in the first
 * prompt that has one.
 * @throws {EmbedError} UNKNOWN_PROMPT, INSTRUCTION_NOT_SUPPORTED */
export function choosePrompt(
  { prompts, defaultPromptName }: Pick<ModelSpec, 'prompts' | 'defaultPromptName'>,
  request: { promptName?: string | undefined; instruction?: string | undefined },
): string {
  const { promptName, instruction } = request
  const name = promptName ?? (instruction === undefined ? defaultPromptName : undefined)
  const known = Object.keys(prompts)
  if (name !== undefined && !Object.hasOwn(prompts, name)) {
    throw new EmbedError('UNKNOWN_PROMPT', { promptName: name, known })
  }
  const prompt = name === undefined ? '' : prompts[name]!
  if (instruction === undefined) return prompt
  const candidates = name === undefined ? Object.values(prompts) : [prompt]
  const [, before, after] =
    candidates.map((text) => instructionTemplate.exec(text)).find((match) => match !== null) ?? []
  if (before === undefined) throw new EmbedError('INSTRUCTION_NOT_SUPPORTED', { known })
  return `${before}${instruction}${after}`
}
