// The servers that are compared. A peer whose program is not on this machine is skipped by name.
//   TEI_ROUTER       text-embeddings-router built with the ORT backend; TEI_MODEL a folder with onnx/model.onnx;
//   ORT_DYLIB_PATH   libonnxruntime.so for it; TEI_CANDLE_ROUTER the program built with candle and MKL
//   INFINITY_EMB     the infinity_emb program (PyPI infinity-emb), with torch
//   MODEL_FOLDER     the Hugging Face folder of the model without ONNX, for candle and Infinity
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
const offline = { HF_HUB_OFFLINE: '1', TRANSFORMERS_OFFLINE: '1', DO_NOT_TRACK: '1' }
const teiBody = (texts) => JSON.stringify({ inputs: texts.length === 1 ? texts[0] : texts })
const openaiBody = (texts) => JSON.stringify({ model: 'm', input: texts.length === 1 ? texts[0] : texts })

/** @param {Record<string, string | undefined>} env */
export function listServers(env) {
  const ours = (name, port, flags) => ({
    name,
    command: process.execPath,
    args: [main, 'serve', '--quiet', '--log-level', 'error', '--port', String(port), ...flags],
    env: {},
    port,
    path: '/embed',
    toBody: teiBody,
    toVectors: (answer) => answer,
  })
  const infinity = (name, port, flags) => ({
    name,
    command: env.INFINITY_EMB,
    args: [
      'v2',
      '--served-model-name',
      'm',
      '--device',
      'cpu',
      '--engine',
      'torch',
      '--host',
      '127.0.0.1',
      '--model-id',
      env.MODEL_FOLDER,
      '--port',
      String(port),
      ...flags,
    ],
    env: offline,
    port,
    path: '/embeddings',
    toBody: openaiBody,
    toVectors: (answer) => answer.data.map((item) => item.embedding),
    missing: missing(env, ['INFINITY_EMB', 'MODEL_FOLDER']),
  })
  return [
    ours('akidb auto', 7820, []),
    ours('akidb onnx fp32', 7821, ['--engine', 'onnx']),
    ours('akidb batching off', 7823, ['--max-batch-size', '1']),
    ours('akidb openvino fp32', 7822, ['--engine', 'openvino', '--precision', 'fp32']),
    {
      name: 'TEI ort fp32',
      command: env.TEI_ROUTER,
      args: [
        '--model-id',
        env.TEI_MODEL,
        '--served-model-name',
        'm',
        '--hostname',
        '127.0.0.1',
        '--port',
        '7801',
      ],
      env: { ...offline, ORT_DYLIB_PATH: env.ORT_DYLIB_PATH },
      port: 7801,
      path: '/embed',
      toBody: teiBody,
      toVectors: (answer) => answer,
      missing: missing(env, ['TEI_ROUTER', 'TEI_MODEL', 'ORT_DYLIB_PATH']),
    },
    {
      name: 'TEI candle fp32',
      command: env.TEI_CANDLE_ROUTER,
      args: [
        '--model-id',
        env.MODEL_FOLDER,
        '--served-model-name',
        'm',
        '--hostname',
        '127.0.0.1',
        '--port',
        '7802',
      ],
      env: { ...offline, RAYON_NUM_THREADS: '8', MKL_ENABLE_INSTRUCTIONS: 'AVX512_E4' },
      port: 7802,
      path: '/embed',
      toBody: teiBody,
      toVectors: (answer) => answer,
      missing: missing(env, ['TEI_CANDLE_ROUTER', 'MODEL_FOLDER']),
    },
    infinity('Infinity torch fp32', 7811, []),
    infinity('Infinity torch bf16', 7812, ['--dtype', 'bfloat16']),
  ]
}

function missing(env, names) {
  const absent = names.filter((name) => env[name] === undefined || !existsSync(env[name]))
  return absent.length === 0 ? undefined : `${absent.join(', ')} not set or not there`
}
