// output = gate * sigmoid(gate) * up, quantised.
//   gate_up bf16 [rows, 2 * ROW_SIZE]: gate, then up; output and scale as OUTPUT says (rows.cuh).
//   Grid: a block a row. Bound by memory. arXiv:2002.05202
#include "rows.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void swiglu(const bf16 *gate_up,
                                                             void *__restrict__ output, float *__restrict__ scale) {
  let_next_start();
  wait_for_previous();
  const long long index = blockIdx.x;
  const bf16 *gates = gate_up + index * 2 * ROW_SIZE;
  Row row, up;
  load_row(row, gates);
  load_row(up, gates + ROW_SIZE);
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float gate = row.values[v][i];
      row.values[v][i] = __fdividef(gate, 1.0f + __expf(-gate)) * up.values[v][i];
    }
  store_output(output, scale, index, row);
}
