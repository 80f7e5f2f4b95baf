/** What quality is judged on. Generated, so no licence to care for; retrieval among word-list sentences is harder than in
 * life: each text has many near neighbours. */
import { makeCorpus } from '../measure/corpus.ts'

export interface QualityTexts {
  /** Are searched. */
  readonly corpus: readonly string[]
  /** Search. */
  readonly queries: readonly string[]
  /** One sentence to many, doubled from one to the next. */
  readonly graded: readonly string[]
  readonly adversarial: readonly string[]
}

/** @param corpusTexts texts to search; a quarter as many queries */
export function makeQualityTexts(corpusTexts = 256): QualityTexts {
  const words = makeCorpus(60, 4).join(' ').split(' ')
  return {
    corpus: makeCorpus(corpusTexts, 2),
    queries: makeCorpus(Math.ceil(corpusTexts / 4), 3),
    graded: [4, 8, 16, 32, 64, 128, 256, 512].flatMap((count) =>
      [0, 11].map((start) => words.slice(start, start + count).join(' ')),
    ),
    adversarial: adversarialTexts,
  }
}

const adversarialTexts: readonly string[] = [
  'import numpy as np',
  'import torch\nimport os, sys\n',
  ' ',
  '\n\n\t\n',
  '.',
  '0',
  'NaN null undefined Infinity -Infinity',
  '[CLS] [SEP] [PAD] [MASK] </s> <|endoftext|>',
  'the '.repeat(700),
  'a'.repeat(5000),
  '!?'.repeat(900),
  '0123456789'.repeat(200),
  "SELECT * FROM users WHERE name = '' OR 1=1; -- \"",
  '<script>alert("x")</script>&nbsp;&amp;',
  'def f(x):\n    return x ** 2\n\nprint([f(i) for i in range(10)])',
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  '東京は日本の首都です。人工知能は急速に発展している。',
  'Привет, мир! Съешь ещё этих мягких французских булок.',
  'مرحبا بالعالم، كيف حالك اليوم؟',
  'ᎣᏏᏲ ᎡᎶᎯ',
  'བོད་སྐད་ཀྱི་ཚིག་གྲུབ།',
  '𓀀𓀁𓀂𓀃 𒀀𒀁𒀂',
  'Z̴̡͝a̶̢͠l̷̨͘g̸̛͜o̵͢͡ t̸͘e̷x̶t̵',
  '🙂🙃😀👩‍👩‍👧‍👦🏳️‍🌈',
  '\u200b\u200c\u200d\ufeff',
  '\u0000\u0001\u0002\u007f',
]
