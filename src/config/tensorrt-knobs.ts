/** The knobs of TensorRT's engines; a part of the one schema. */
import { Type } from 'typebox'
import { choice, flag, integer, string } from './knob.ts'

export const tensorrtKnobs = {
  deviceId: integer('GPU to use, as nvidia-smi counts those this process may see', {
    default: 0,
    minimum: 0,
    maximum: 1023,
    needsRestart: true,
  }),
  tensorrtLibrary: Type.Optional(
    string('Path of libnvinfer.so, when it is not where doctor looks; the ONNX parser lies beside it', {
      placeholder: 'file',
    }),
  ),
  engineCachePath: Type.Optional(
    string("Where TensorRT's plans and timings are kept (default: engines in cacheDir)", {
      placeholder: 'folder',
    }),
  ),
  plan: Type.Optional(
    string('A TensorRT plan built elsewhere for this TensorRT and GPU, in place of the engine cache', {
      placeholder: 'file',
    }),
  ),
  profiles: string(
    'Batch sizes that TensorRT optimises for, as name=min/opt/max, comma-separated; a batch up to the largest max can run',
    {
      default: 'low_latency=1/1/2,balanced=2/4/8,high_throughput=8/16/32',
      placeholder: 'name=min/opt/max',
    },
  ),
  profileTokens: string(
    'Token lengths that each profile is made for, comma-separated; the last is the longest text, cut to what the model takes',
    { default: '512', placeholder: 'tokens', tunable: ['512', '64,128,256,512'] },
  ),
  enginePerProfile: flag(
    'Build one TensorRT engine a profile (each holds the weights) instead of one for all',
    {
      tunable: [false, true],
    },
  ),
  tacticSources: string(
    'Libraries that TensorRT may take kernels from beside its own: default, or a comma-separated list of CUBLAS, CUBLAS_LT, CUDNN, EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS',
    {
      default: 'default',
      placeholder: 'names',
      tunable: ['default', 'CUBLAS', 'CUBLAS,CUDNN', 'CUBLAS,CUDNN,EDGE_MASK_CONVOLUTIONS'],
    },
  ),
  workspaceBytes: integer(
    'GPU memory that a kernel of a TensorRT engine may use beside weights and activations',
    {
      default: 2 ** 32,
      minimum: 2 ** 20,
      tunable: [2 ** 29, 2 ** 30, 2 ** 31, 2 ** 32],
    },
  ),
  // 3 is TensorRT's own default; 5 compares more kernels and takes longer.
  builderOptimizationLevel: integer(
    'How long TensorRT searches for faster kernels: 0 builds fastest, 5 searches longest',
    { default: 3, minimum: 0, maximum: 5, tunable: [3, 5] },
  ),
  buildEngines: flag(
    'Build the TensorRT engine at the start when the cache has none, which takes minutes; never later',
  ),
  cudaGraphs: integer('Batch shapes that have a CUDA graph: less work for the CPU a batch; 0 for none', {
    default: 32,
    minimum: 0,
    maximum: 1024,
    unit: 'shapes',
    tunable: [0, 32],
  }),
  gpuWait: choice(
    ['poll', 'thread'],
    'How the end of a batch on the GPU is waited for: poll is 25 us faster and takes a core meanwhile, thread sleeps',
    { default: 'poll', tunable: ['poll', 'thread'] },
  ),
  scales: Type.Optional(
    string(
      'Activation scales for fp8: a file, or fixed:0.05 for synthetic weights (default: those measured for the model)',
      { placeholder: 'file|fixed:N' },
    ),
  ),
  embeddingTable: choice(
    ['gpu', 'host'],
    'Where the vocabulary table lies; host saves its GPU memory and gathers the rows on the CPU',
    { default: 'gpu', tunable: ['gpu', 'host'] },
  ),
}
