// output = gelu(input + bias), quantised: the exact one, x / 2 * (1 + erf(x / sqrt 2)), or -DAPPROXIMATE the one by tanh.
//   input bf16 [rows, ROW_SIZE]; bias bf16 [ROW_SIZE]; output and scale as OUTPUT says (rows.cuh).
//   bf16 may be written where the input is. Grid: a block a row. Bound by memory. arXiv:1606.08415
#include "rows.cuh"

__device__ __forceinline__ float gelu_of(float x) {
#if APPROXIMATE
  return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
#else
  return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
#endif
}

extern "C" __global__ __launch_bounds__(THREADS) void gelu(const bf16 *input, const bf16 *__restrict__ bias, void *output,
                                                           float *__restrict__ scale) {
  let_next_start();
  wait_for_previous();
  const long long index = blockIdx.x;
  Row row;
  load_row(row, input + index * ROW_SIZE);
  add_row(row, bias);
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) row.values[v][i] = gelu_of(row.values[v][i]);
  store_output(output, scale, index, row);
}
