// output = input in the form that OUTPUT says (rows.cuh): activations before a product, weights with a scale a row.
//   input [rows, ROW_SIZE] of SOURCE: bf16 0, fp16 1, fp32 2. Grid: a block a row. Bound by memory.
#include "rows.cuh"

#if SOURCE == 0
using Source = bf16;
__device__ __forceinline__ void load_source(float (&values)[8], const Source *from) { load_8(values, from); }
#elif SOURCE == 1
using Source = unsigned short;
__device__ __forceinline__ void load_source(float (&values)[8], const Source *from) {
  const uint4 packed = load_vector<uint4>(from);
  const unsigned pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 8; i++) values[i] = half_to_float(static_cast<unsigned short>(pairs[i / 2] >> 16 * (i % 2)));
}
#else
using Source = float;
__device__ __forceinline__ void load_source(float (&values)[8], const Source *from) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const uint4 bits = load_vector<uint4>(from + 4 * half);
    values[4 * half] = __uint_as_float(bits.x);
    values[4 * half + 1] = __uint_as_float(bits.y);
    values[4 * half + 2] = __uint_as_float(bits.z);
    values[4 * half + 3] = __uint_as_float(bits.w);
  }
}
#endif

__device__ __forceinline__ void load_source_row(Row &row, const Source *from) {
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    if (is_inside(v)) load_source(row.values[v], from + column_of(v));
    else
      for (int i = 0; i < 8; i++) row.values[v][i] = 0;
  }
}

extern "C" __global__ __launch_bounds__(THREADS) void quantize_rows(const Source *input,
                                                                    void *__restrict__ output,
                                                                    float *__restrict__ scale) {
  let_next_start();
  wait_for_previous();
  const long long index = blockIdx.x;
  Row row;
  load_source_row(row, input + index * ROW_SIZE);
  store_output(output, scale, index, row);
}

// Largest size of any value, to find the one scale of a matrix: amax starts at 0 and is compared by its bits, which order
// sizes as numbers.
extern "C" __global__ __launch_bounds__(THREADS) void find_amax(const Source *input,
                                                                unsigned *__restrict__ amax) {
  let_next_start();
  wait_for_previous();
  Row row;
  load_source_row(row, input + (long long)blockIdx.x * ROW_SIZE);
  float largest = 0;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) largest = fmaxf(largest, fabsf(row.values[v][i]));
  largest = reduce_block<Max>(largest);
  if (threadIdx.x == 0) atomic_max(amax, __float_as_uint(largest));
}

// scale = amax / 448, 1 where all is zero.
extern "C" __global__ void scale_of_amax(const unsigned *amax, float *__restrict__ scale) {
  let_next_start();
  wait_for_previous();
  const float largest = __uint_as_float(amax[0]);
  scale[0] = largest > 0 ? largest / E4M3_MAX : 1.0f;
}
