// residual += delta; output = residual / sqrt(mean(residual^2) + epsilon) * gamma, quantised.
//   residual bf16 [rows, ROW_SIZE], read and, WITH_DELTA, written; delta bf16 [rows, ROW_SIZE]; gamma bf16 [ROW_SIZE];
//   output and scale as OUTPUT says (rows.cuh). Grid: a block a row. Bound by memory. arXiv:1910.07467
#include "rows.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void residual_rmsnorm(
    bf16 *__restrict__ residual, const bf16 *delta, const bf16 *__restrict__ gamma,
    void *__restrict__ output, float *__restrict__ scale, float epsilon) {
  let_next_start();
  wait_for_previous();
  const long long index = blockIdx.x;
  Row row;
  load_row(row, residual + index * ROW_SIZE);
#if WITH_DELTA
  add_row(row, delta + index * ROW_SIZE);
  store_row(residual + index * ROW_SIZE, row);
#endif
  rms_normalize(row, gamma, epsilon);
  store_output(output, scale, index, row);
}
