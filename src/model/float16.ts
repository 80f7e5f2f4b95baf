/** Half-precision floats, widened to f32. Exact: every value of either type is an f32. */

/** bf16 is the upper half of an f32. */
export function widenBfloat16(source: Uint16Array): Float32Array {
  const bits = new Uint32Array(source.length)
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16
  return new Float32Array(bits.buffer)
}

let float16Table: Uint32Array | undefined

/** IEEE binary16, by a table of its 65536 values. */
export function widenFloat16(source: Uint16Array): Float32Array {
  float16Table ??= makeFloat16Table()
  const bits = new Uint32Array(source.length)
  for (let i = 0; i < source.length; i++) bits[i] = float16Table[source[i]!]!
  return new Float32Array(bits.buffer)
}

function makeFloat16Table(): Uint32Array {
  const table = new Uint32Array(1 << 16)
  const floats = new Float32Array(table.buffer)
  for (let half = 0; half < 1 << 16; half++) {
    const sign = half & 0x8000 ? -1 : 1
    const exponent = (half >> 10) & 31
    const fraction = half & 1023
    if (exponent === 0) floats[half] = sign * fraction * 2 ** -24
    else if (exponent < 31) floats[half] = sign * (1024 + fraction) * 2 ** (exponent - 25)
    else table[half] = ((half & 0x8000) << 16) | 0x7f800000 | (fraction << 13)
  }
  return table
}
