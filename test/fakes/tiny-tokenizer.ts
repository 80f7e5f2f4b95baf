import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The place in the list is the token's id. */
const vocabulary = '[PAD] [UNK] [CLS] [SEP] hello world un ##believ ##able ! a b c d e f g ##s 中 cafe'.split(
  ' ',
)

/** A WordPiece tokenizer like BERT's with 20 tokens, whose file asks for a truncation to 4 tokens and a padding to 16,
 * as published tokenizer files do. */
export const tinyTokenizer = {
  version: '1.0',
  truncation: { direction: 'Right', max_length: 4, strategy: 'LongestFirst', stride: 0 },
  padding: {
    strategy: { Fixed: 16 },
    direction: 'Right',
    pad_to_multiple_of: null,
    pad_id: 0,
    pad_type_id: 0,
    pad_token: '[PAD]',
  },
  added_tokens: ['[PAD]', '[UNK]', '[CLS]', '[SEP]'].map((content, id) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  })),
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: {
    type: 'TemplateProcessing',
    single: [
      { SpecialToken: { id: '[CLS]', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { SpecialToken: { id: '[SEP]', type_id: 0 } },
    ],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: {
      '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] },
      '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] },
    },
  },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
  },
}

/** A folder of its own with a tokenizer.json; gone when disposed. */
export async function writeTokenizerFile(
  content: object | string = tinyTokenizer,
): Promise<AsyncDisposable & { readonly tokenizerPath: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'akidb-tokenizer-'))
  const tokenizerPath = join(folder, 'tokenizer.json')
  await writeFile(tokenizerPath, typeof content === 'string' ? content : JSON.stringify(content))
  return { tokenizerPath, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}
