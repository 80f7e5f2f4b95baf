// One vector a sequence: its last token, its first, or the mean of all; RMS_NORM: normalised as the model's last layer does;
// cut to `dimensions` and, where asked, brought to length 1.
//   hidden bf16 [tokens, ROW_SIZE]; cumulative_lengths i32 [sequences + 1]; gamma bf16 [ROW_SIZE]; output f32
//   [sequences, dimensions]. Grid: a block a sequence. Bound by memory.
#define OUTPUT 0
#include "rows.cuh"

#define POOLING_LAST 0
#define POOLING_CLS 1
#define POOLING_MEAN 2

extern "C" __global__ __launch_bounds__(THREADS) void pooling(
    const bf16 *hidden, const int *__restrict__ cumulative_lengths, const bf16 *__restrict__ gamma,
    float *__restrict__ output, float epsilon, int dimensions, int normalize) {
  let_next_start();
  wait_for_previous();
  Row row;
#if POOLING == POOLING_MEAN
  const int begin = cumulative_lengths[blockIdx.x], end = cumulative_lengths[blockIdx.x + 1];
  load_row(row, hidden + (long long)begin * ROW_SIZE);
#pragma unroll 4
  for (int token = begin + 1; token < end; token++) add_row(row, hidden + (long long)token * ROW_SIZE);
  const float share = 1.0f / (end - begin);
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) row.values[v][i] *= share;
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
  float *to = output + (long long)blockIdx.x * dimensions;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (column_of(v) + i < dimensions) to[column_of(v) + i] = row.values[v][i] * factor;
}
