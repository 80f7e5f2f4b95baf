// Rows of one array or two by their numbers, as bytes: first_to[i] = first[rows[i]], and the same of the second.
//   first [any, FIRST_BYTES], first_to [count, FIRST_BYTES], second and second_to alike of SECOND_BYTES, both multiples of 16;
//   rows i32 [count]. Grid: [count, arrays]: a block a row of one array. Bound by memory, and for few rows by latency.
#include "ptx.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void gather_rows(const unsigned char *first,
                                                                  unsigned char *__restrict__ first_to,
                                                                  const unsigned char *second,
                                                                  unsigned char *__restrict__ second_to,
                                                                  const int *__restrict__ rows) {
  let_next_start();
  wait_for_previous();
  const bool is_first = blockIdx.y == 0;
  const int bytes = is_first ? FIRST_BYTES : SECOND_BYTES;
  const unsigned char *from = (is_first ? first : second) + (long long)rows[blockIdx.x] * bytes;
  unsigned char *to = (is_first ? first_to : second_to) + (long long)blockIdx.x * bytes;
  for (int at = threadIdx.x * 16; at < bytes; at += THREADS * 16)
    store_vector<uint4>(to + at, load_vector<uint4>(from + at));
}
