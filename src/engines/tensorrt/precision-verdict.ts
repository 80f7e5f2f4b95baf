/** Whether an engine computes in the precision that was asked for. */
import type { Layer, LinearLayer } from './inspector.ts'

export interface PrecisionVerdict {
  readonly isGood: boolean
  readonly text: string
}

/** @param wanted as in the configuration; 'auto' asks for nothing
 * @param linear the model's linear layers; empty where its ONNX file is not known, then all products but attention's count */
export function judgePrecision(
  wanted: string,
  layers: readonly Layer[],
  linear: readonly LinearLayer[],
): PrecisionVerdict {
  const products =
    linear.length > 0
      ? linear.map(({ node, precision }) => ({ name: node, precision }))
      : layers.filter(({ isGemm }) => isGemm).map(({ name, precision }) => ({ name, precision }))
  const what = linear.length > 0 ? 'linear layers' : 'matrix products'
  const good = products.filter(({ precision }) => precision === wanted)
  const count = `${good.length} of ${products.length} ${what} run in ${wanted}`
  if (wanted === 'auto') return { isGood: true, text: 'no precision was asked for' }
  if (products.length === 0) return { isGood: false, text: 'the engine tells of no matrix product' }
  if (good.length === products.length) return { isGood: true, text: count }
  const others = products.filter(({ precision }) => precision !== wanted)
  const names = others.slice(0, 8).map(({ name, precision }) => `${name} (${precision})`)
  const more = others.length > names.length ? ` and ${others.length - names.length} more` : ''
  return { isGood: false, text: `${count}; not ${names.join(', ')}${more}` }
}
