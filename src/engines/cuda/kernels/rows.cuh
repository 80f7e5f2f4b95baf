// Kernels with a block a row: each thread holds VECTORS pieces of 8 neighbours in registers, so a row is read once.
//   -DROW_SIZE values of a row, a multiple of 8; -DTHREADS a block, a multiple of 32; -DOUTPUT one of the below
#pragma once
#include "ptx.cuh"

// What the next matrix product takes: bf16; E4M3 with one scale for all rows, given; E4M3 with a scale a row, found here.
#define OUTPUT_BF16 0
#define OUTPUT_FP8 1
#define OUTPUT_FP8_ROWWISE 2

constexpr int VECTORS = (ROW_SIZE / 8 + THREADS - 1) / THREADS;
constexpr float E4M3_MAX = 448.0f;

using bf16 = unsigned short;

struct Row {
  float values[VECTORS][8];
};

// First of the 8 columns that piece `vector` of this thread holds.
__device__ __forceinline__ int column_of(int vector) { return (vector * THREADS + (int)threadIdx.x) * 8; }
__device__ __forceinline__ bool is_inside(int vector) { return column_of(vector) < ROW_SIZE; }

__device__ __forceinline__ void unpack_bf16(float (&values)[8], uint4 packed) {
  const unsigned pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    values[2 * i] = __uint_as_float(pairs[i] << 16);
    values[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ void load_8(float (&values)[8], const bf16 *from) {
  unpack_bf16(values, load_vector<uint4>(from));
}
__device__ __forceinline__ void store_8(bf16 *to, const float (&values)[8]) {
  store_vector<uint4>(to, {pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]),
                           pack_bf16(values[4], values[5]), pack_bf16(values[6], values[7])});
}

__device__ __forceinline__ void load_row(Row &row, const bf16 *from) {
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    if (is_inside(v)) load_8(row.values[v], from + column_of(v));
    else
      for (int i = 0; i < 8; i++) row.values[v][i] = 0;
  }
}
__device__ __forceinline__ void add_row(Row &row, const bf16 *from) {
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    if (!is_inside(v)) continue;
    float other[8];
    load_8(other, from + column_of(v));
#pragma unroll
    for (int i = 0; i < 8; i++) row.values[v][i] += other[i];
  }
}
__device__ __forceinline__ void store_row(bf16 *to, const Row &row) {
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
    if (is_inside(v)) store_8(to + column_of(v), row.values[v]);
}

struct Sum {
  static __device__ __forceinline__ float join(float a, float b) { return a + b; }
};
struct Max {
  static __device__ __forceinline__ float join(float a, float b) { return fmaxf(a, b); }
};
// Of all threads of the block, to all of them.
template <typename Operation> __device__ __forceinline__ float reduce_block(float value) {
  __shared__ float partial[THREADS / 32];
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) value = Operation::join(value, shuffle_xor(value, mask));
  if (THREADS == 32) return value;
  // The reduction before this one may still be read.
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = partial[0];
#pragma unroll
  for (int i = 1; i < THREADS / 32; i++) value = Operation::join(value, partial[i]);
  return value;
}

// Mean of `row` to the power of POWER, around `center`.
template <int POWER> __device__ __forceinline__ float mean_of(const Row &row, float center) {
  float sum = 0;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
    if (is_inside(v))
#pragma unroll
      for (int i = 0; i < 8; i++) sum += POWER == 1 ? row.values[v][i] : (row.values[v][i] - center) * (row.values[v][i] - center);
  return reduce_block<Sum>(sum) / ROW_SIZE;
}

// row / sqrt(mean(row^2) + epsilon) * gamma
__device__ __forceinline__ void rms_normalize(Row &row, const bf16 *gamma, float epsilon) {
  const float factor = rsqrtf(mean_of<2>(row, 0) + epsilon);
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    if (!is_inside(v)) continue;
    float weights[8];
    load_8(weights, gamma + column_of(v));
#pragma unroll
    for (int i = 0; i < 8; i++) row.values[v][i] *= factor * weights[i];
  }
}
// (row - mean) / sqrt(variance + epsilon) * gamma + beta
__device__ __forceinline__ void layer_normalize(Row &row, const bf16 *gamma, const bf16 *beta, float epsilon) {
  const float mean = mean_of<1>(row, 0);
  const float factor = rsqrtf(mean_of<2>(row, mean) + epsilon);
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    if (!is_inside(v)) continue;
    float weights[8], shift[8];
    load_8(weights, gamma + column_of(v));
    load_8(shift, beta + column_of(v));
#pragma unroll
    for (int i = 0; i < 8; i++) row.values[v][i] = (row.values[v][i] - mean) * factor * weights[i] + shift[i];
  }
}

// Row `index` of the output in the form that OUTPUT names.
//   scale: E4M3: f32 [1], read; row-wise: f32 [rows], written
__device__ __forceinline__ void store_output(void *output, float *scale, long long index, const Row &row) {
#if OUTPUT == OUTPUT_BF16
  store_row(static_cast<bf16 *>(output) + index * ROW_SIZE, row);
#else
#if OUTPUT == OUTPUT_FP8
  const float inverse = 1.0f / scale[0];
#else
  float largest = 0;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) largest = fmaxf(largest, fabsf(row.values[v][i]));
  largest = reduce_block<Max>(largest);
  // A row of zeros needs some scale that is not zero.
  const float own_scale = largest > 0 ? largest / E4M3_MAX : 1.0f;
  const float inverse = 1.0f / own_scale;
  if (threadIdx.x == 0) scale[index] = own_scale;
#endif
  unsigned char *to = static_cast<unsigned char *>(output) + index * ROW_SIZE;
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    if (!is_inside(v)) continue;
    const float(&x)[8] = row.values[v];
    unsigned words[2];
#pragma unroll
    for (int i = 0; i < 2; i++)
      words[i] = pack_e4m3(x[4 * i] * inverse, x[4 * i + 1] * inverse) |
                 static_cast<unsigned>(pack_e4m3(x[4 * i + 2] * inverse, x[4 * i + 3] * inverse)) << 16;
    store_vector<uint2>(to + column_of(v), {words[0], words[1]});
  }
#endif
}
