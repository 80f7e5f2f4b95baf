// hidden = layernorm(hidden + delta) * gamma + beta: in place as bf16, for it is the next residual, and quantised.
//   hidden bf16 [rows, ROW_SIZE]; delta bf16 [rows, ROW_SIZE]; gamma, beta bf16 [ROW_SIZE]; output and scale as OUTPUT says
//   (rows.cuh), nothing where that is bf16. Grid: a block a row. Bound by memory. arXiv:1607.06450
#include "rows.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void residual_layernorm(
    bf16 *__restrict__ hidden, const bf16 *delta, const bf16 *__restrict__ gamma,
    const bf16 *__restrict__ beta, void *__restrict__ output, float *__restrict__ scale, float epsilon) {
  let_next_start();
  wait_for_previous();
  const long long index = blockIdx.x;
  Row row;
  load_row(row, hidden + index * ROW_SIZE);
  add_row(row, delta + index * ROW_SIZE);
  layer_normalize(row, gamma, beta, epsilon);
  store_row(hidden + index * ROW_SIZE, row);
#if OUTPUT != OUTPUT_BF16
  store_output(output, scale, index, row);
#endif
}
