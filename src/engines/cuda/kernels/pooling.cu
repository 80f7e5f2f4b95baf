// One vector a sequence: its last token, its first, or the mean of all; RMS_NORM: normalised as the model's last layer does;
// cut to `dimensions` and, where asked, brought to length 1.
//   hidden bf16 [tokens, ROW_SIZE]; cumulative_lengths i32 [sequences + 1]; gamma bf16 [ROW_SIZE]; output f32
//   [sequences, dimensions]. Grid: a block a sequence; for the mean, GROUPS times the threads of a row (blockDim.y) share its
//   tokens. Bound by memory.
#define OUTPUT 0
#include "rows.cuh"

#define POOLING_LAST 0
#define POOLING_CLS 1
#define POOLING_MEAN 2

extern "C" __global__ __launch_bounds__(THREADS *GROUPS) void pooling(
    const bf16 *hidden, const int *__restrict__ cumulative_lengths, const bf16 *__restrict__ gamma,
    float *__restrict__ output, float epsilon, int dimensions, int normalize) {
  let_next_start();
  wait_for_previous();
  Row row;
#if POOLING == POOLING_MEAN
  __shared__ float partial_rows[GROUPS][VECTORS * THREADS * 8];
  const int begin = cumulative_lengths[blockIdx.x], end = cumulative_lengths[blockIdx.x + 1];
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) row.values[v][i] = 0;
#pragma unroll 4
  for (int token = begin + threadIdx.y; token < end; token += GROUPS) add_row(row, hidden + (long long)token * ROW_SIZE);
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) partial_rows[threadIdx.y][column_of(v) + i] = row.values[v][i];
  __syncthreads();
  // Every group has the whole row then; what follows they do alike.
  const float share = 1.0f / (end - begin);
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float sum = 0;
      for (int group = 0; group < GROUPS; group++) sum += partial_rows[group][column_of(v) + i];
      row.values[v][i] = sum * share;
    }
#elif POOLING == POOLING_CLS
  load_row(row, hidden + (long long)cumulative_lengths[blockIdx.x] * ROW_SIZE);
#else
  load_row(row, hidden + (long long)(cumulative_lengths[blockIdx.x + 1] - 1) * ROW_SIZE);
#endif
#if RMS_NORM
  rms_normalize(row, gamma, epsilon);
#endif
  float sum = 0;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (column_of(v) + i < dimensions) sum += row.values[v][i] * row.values[v][i];
  sum = reduce_block<Sum>(sum);
  // As in engines/vectors.ts: a vector of zeros stays one.
  const float factor = normalize && sum > 0 ? rsqrtf(sum) : 1.0f;
  if (threadIdx.y > 0) return;
  float *to = output + (long long)blockIdx.x * dimensions;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (column_of(v) + i < dimensions) to[column_of(v) + i] = row.values[v][i] * factor;
}
