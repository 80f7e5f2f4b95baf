import { describe, expect, it } from 'vitest'
import { choosePrompt, withDefaultPrompt } from './prompt.ts'

const qwen3 = {
  prompts: { document: '', query: 'Instruct: Given a web search query, retrieve passages\nQuery:' },
  defaultPromptName: undefined,
}
const e5 = { prompts: { query: 'query: ', passage: 'passage: ' }, defaultPromptName: 'passage' }

describe('withDefaultPrompt', () => {
  it("takes the configuration's prompt, by name or as it is, in place of the model's", () => {
    expect(choosePrompt(withDefaultPrompt(e5, {}), {})).toBe('passage: ')
    expect(choosePrompt(withDefaultPrompt(e5, { defaultPromptName: 'query' }), {})).toBe('query: ')
    const own = withDefaultPrompt(e5, { defaultPrompt: 'about ' })
    expect(choosePrompt(own, {})).toBe('about ')
    expect(choosePrompt(own, { promptName: 'query' })).toBe('query: ')
  })

  it('refuses both at once and a name that the model does not have', () => {
    const refusal = expect.objectContaining({ code: 'CONFIG_INVALID' }) as Error
    expect(() => withDefaultPrompt(e5, { defaultPromptName: 'query', defaultPrompt: 'x' })).toThrow(refusal)
    expect(() => withDefaultPrompt(e5, { defaultPromptName: 'toString' })).toThrow(refusal)
  })
})

describe('choosePrompt', () => {
  it('takes the named prompt, else the default, else none', () => {
    expect(choosePrompt(e5, { promptName: 'query' })).toBe('query: ')
    expect(choosePrompt(e5, {})).toBe('passage: ')
    expect(choosePrompt(qwen3, {})).toBe('')
  })

  it('puts an instruction in place of the one in the model, whatever it holds', () => {
    const instruction = 'Find code for $1\nQuery: $&'
    expect(choosePrompt(qwen3, { instruction })).toBe(`Instruct: ${instruction}\nQuery:`)
    expect(choosePrompt(qwen3, { instruction, promptName: 'query' })).toBe(`Instruct: ${instruction}\nQuery:`)
    const mistral = { prompts: { q: 'Instruct: x\nQuery: ' }, defaultPromptName: undefined }
    expect(choosePrompt(mistral, { instruction: 'y' })).toBe('Instruct: y\nQuery: ')
  })

  it('refuses an instruction where the prompt has no room for it, and unknown names', () => {
    const refusal = { code: 'INSTRUCTION_NOT_SUPPORTED' }
    expect(() => choosePrompt(e5, { instruction: 'x' })).toThrow(expect.objectContaining(refusal))
    expect(() => choosePrompt(qwen3, { instruction: 'x', promptName: 'document' })).toThrow(
      expect.objectContaining(refusal),
    )
    for (const promptName of ['nope', '__proto__', 'toString']) {
      expect(() => choosePrompt(e5, { promptName })).toThrow(
        expect.objectContaining({
          code: 'UNKNOWN_PROMPT',
          details: { promptName, known: ['query', 'passage'] },
        }),
      )
    }
  })
})
