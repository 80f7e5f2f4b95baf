/** A Hugging Face folder read into one plain value: everything the rest of the package needs to know of a model. */

export const poolings = ['cls', 'mean', 'last-token'] as const
export type Pooling = (typeof poolings)[number]

/** Families whose graph this package can build itself from safetensors. */
export const graphFamilies = ['bert', 'xlm-roberta', 'mpnet', 'qwen3'] as const
export type GraphFamily = (typeof graphFamilies)[number]

export interface ModelSpec {
  /** What the user calls it: the hub name, else the folder's name. */
  readonly id: string
  /** Absolute path. */
  readonly folder: string
  /** config.json's model_type, e.g. 'bert'. */
  readonly architecture: string
  /** Set when this package can build the graph of the architecture. */
  readonly family: GraphFamily | undefined
  readonly hiddenSize: number
  readonly layerCount: number
  readonly headCount: number
  readonly keyValueHeadCount: number
  readonly headSize: number
  readonly intermediateSize: number
  readonly vocabularySize: number
  /** Longest input in tokens, special tokens included. */
  readonly maxTokens: number
  readonly padTokenId: number
  readonly pooling: Pooling
  /** The model's own last module is a normalisation. */
  readonly normalize: boolean
  /** Length of the vectors given when nothing else is asked. */
  readonly dimensions: number
  /** Prompts by name, put before the text. */
  readonly prompts: Readonly<Record<string, string>>
  readonly defaultPromptName: string | undefined
  /** Absolute paths. `onnx` is what the folder brings, if it brings one. */
  readonly files: {
    readonly config: string
    readonly tokenizer: string
    readonly weights: readonly string[]
    readonly onnx: string | undefined
  }
  /** SHA-256 over the weights and the configuration: the key of every cache. */
  readonly contentHash: string
}
