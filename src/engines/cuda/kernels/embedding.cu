// hidden = word[id]; WITH_LAYERNORM: layernorm(word[id] + position[p] + type) * gamma + beta, as BERT has it.
//   ids, positions i32 [rows]; word bf16 [vocabulary, ROW_SIZE]; position bf16 [positions, ROW_SIZE]; type, gamma, beta bf16
//   [ROW_SIZE]; hidden bf16 [rows, ROW_SIZE]; output and scale as OUTPUT says (rows.cuh), nothing where that is bf16.
//   Grid: a block a row. Bound by memory.
#include "rows.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void embedding(
    const int *__restrict__ ids, const int *__restrict__ positions, const bf16 *__restrict__ word,
    const bf16 *__restrict__ position, const bf16 *__restrict__ type, const bf16 *__restrict__ gamma,
    const bf16 *__restrict__ beta, bf16 *__restrict__ hidden, void *__restrict__ output, float *__restrict__ scale,
    float epsilon) {
  let_next_start();
  wait_for_previous();
  const long long index = blockIdx.x;
  Row row;
  load_row(row, word + (long long)ids[index] * ROW_SIZE);
#if WITH_LAYERNORM
  add_row(row, position + (long long)positions[index] * ROW_SIZE);
  add_row(row, type);
  layer_normalize(row, gamma, beta, epsilon);
#endif
  store_row(hidden + index * ROW_SIZE, row);
#if OUTPUT != OUTPUT_BF16
  store_output(output, scale, index, row);
#endif
}
