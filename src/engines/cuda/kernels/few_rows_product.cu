// output (+)= input · weightsᵀ of E4M3 for at most ROWS rows: the weights are read once, which is all the time it takes.
//   input [ROWS, INNER], weights [COLUMNS, INNER], both times their scale: f32 [1], or ROWWISE [ROWS] and [COLUMNS].
//   OUTPUT: bf16 [ROWS, COLUMNS], written or added to; or SwiGLU of weights [2 * COLUMNS, INNER], gates first, as E4M3
//   divided by output_scale f32 [1]. INNER is a multiple of 64, COLUMNS of 16.
//   Grid: a block has 16 columns; its WARPS share the inner size by pieces of 64 and sum up in the end. Weights come straight
//   to the registers that the tensor cores read: the order of the inner values is free, so a lane takes 16 in a row.
//   Bound by memory. The first weights are under way before the kernel before is done.
#include "ptx.cuh"

#define OUTPUT_WRITTEN 0
#define OUTPUT_ADDED 1
#define OUTPUT_SWIGLU 2

using bf16 = unsigned short;
using e4m3 = unsigned char;
constexpr int PANELS = OUTPUT == OUTPUT_SWIGLU ? 2 : 1;
constexpr int PIECE = 64;
constexpr int PIECES = INNER / PIECE;
constexpr int STEPS = (PIECES + WARPS - 1) / WARPS;
// Steps whose weights are under way: 4 KiB a warp.
constexpr int AHEAD = 4 / PANELS < STEPS ? 4 / PANELS : STEPS;

extern "C" __global__ __launch_bounds__(WARPS * 32) void few_rows_product(
    const e4m3 *input, const e4m3 *__restrict__ weights, void *output, const float *input_scale,
    const float *__restrict__ weight_scale, const float *__restrict__ output_scale) {
  __shared__ float partial[WARPS][PANELS * 16][ROWS + 1];
  let_next_start();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  const int first_column = blockIdx.x * 16;

  uint4 ahead[AHEAD][PANELS][2];
  const auto load_weights = [&](int step) {
    const int piece = step * WARPS + warp;
    if (step >= STEPS || piece >= PIECES) return;
#pragma unroll
    for (int p = 0; p < PANELS; p++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const long long row = p * COLUMNS + first_column + group + 8 * half;
        ahead[step % AHEAD][p][half] = load_once<uint4>(weights + row * INNER + piece * PIECE + member * 16);
      }
  };
#pragma unroll
  for (int step = 0; step < AHEAD; step++) load_weights(step);
  wait_for_previous();

  float sums[PANELS][ROWS / 8][4] = {};
#pragma unroll
  for (int step = 0; step < STEPS; step++) {
    const int piece = step * WARPS + warp;
    if (piece < PIECES) {
#pragma unroll
      for (int n = 0; n < ROWS / 8; n++) {
        const uint4 x = load_vector<uint4>(input + (n * 8 + group) * INNER + piece * PIECE + member * 16);
#pragma unroll
        for (int p = 0; p < PANELS; p++) {
          const uint4(&w)[2] = ahead[step % AHEAD][p];
          multiply_accumulate_e4m3(sums[p][n], {w[0].x, w[1].x, w[0].y, w[1].y}, x.x, x.y);
          multiply_accumulate_e4m3(sums[p][n], {w[0].z, w[1].z, w[0].w, w[1].w}, x.z, x.w);
        }
      }
    }
    load_weights(step + AHEAD);
  }

#pragma unroll
  for (int p = 0; p < PANELS; p++)
#pragma unroll
    for (int n = 0; n < ROWS / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        partial[warp][p * 16 + group + i / 2 * 8][n * 8 + member * 2 + i % 2] = sums[p][n][i];
  __syncthreads();

  for (int index = threadIdx.x; index < 16 * ROWS; index += WARPS * 32) {
    const int column = index % 16, row = index / 16;
    const long long at = (long long)row * COLUMNS + first_column + column;
    float values[PANELS];
#pragma unroll
    for (int p = 0; p < PANELS; p++) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) sum += partial[w][p * 16 + column][row];
#if ROWWISE
      values[p] = sum * input_scale[row] * weight_scale[p * COLUMNS + first_column + column];
#else
      values[p] = sum * (input_scale[0] * weight_scale[0]);
#endif
    }
#if OUTPUT == OUTPUT_SWIGLU
    const float active = __fdividef(values[0], 1.0f + __expf(-values[0])) * values[PANELS - 1];
    static_cast<e4m3 *>(output)[at] = static_cast<e4m3>(pack_e4m3(active / output_scale[0], 0));
#else
    bf16 *to = static_cast<bf16 *>(output) + at;
#if OUTPUT == OUTPUT_ADDED
    values[0] += __uint_as_float(static_cast<unsigned>(*to) << 16);
#endif
    *to = static_cast<bf16>(pack_bf16(values[0], 0));
#endif
  }
}
