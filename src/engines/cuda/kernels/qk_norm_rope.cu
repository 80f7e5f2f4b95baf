// Query and key heads, in place, or keys alone (FIRST_HEAD): RMSNorm over the head (WITH_NORM), then rotation by position.
//   qkv bf16 [rows, (HEADS + 2 * KV_HEADS) * HEAD_SIZE]: query heads, key heads, value heads; the latter stay as they are;
//   positions i32 [rows]; rotation f32 [positions, HEAD_SIZE / 2, 2]: cosine, sine; query_gamma, key_gamma bf16 [HEAD_SIZE].
//   Grid: a warp a head, WARPS heads a block. Bound by memory. arXiv:2104.09864; the pair of i is i + HEAD_SIZE / 2
#include "ptx.cuh"

using bf16 = unsigned short;
constexpr int ROTATED_HEADS = HEADS + KV_HEADS - FIRST_HEAD;
constexpr int ROW = (HEADS + 2 * KV_HEADS) * HEAD_SIZE;
// Each lane holds pairs of neighbours of the first half, and their partners of the second.
constexpr int PAIRS = HEAD_SIZE / 2 / 2;
constexpr int STEPS = (PAIRS + 31) / 32;

__device__ __forceinline__ float2 unpack(unsigned pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

extern "C" __global__ __launch_bounds__(WARPS * 32) void qk_norm_rope(
    bf16 *__restrict__ qkv, const int *__restrict__ positions, const float *__restrict__ rotation,
    const bf16 *__restrict__ query_gamma, const bf16 *__restrict__ key_gamma, float epsilon, int rows) {
  let_next_start();
  wait_for_previous();
  const long long task = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const long long row = task / ROTATED_HEADS;
  const int head = FIRST_HEAD + (int)(task % ROTATED_HEADS);
  // All lanes of a warp have the same task.
  if (row >= rows) return;
  bf16 *values = qkv + row * ROW + head * HEAD_SIZE;
  float2 low[STEPS], high[STEPS];
  float sum = 0;
#pragma unroll
  for (int s = 0; s < STEPS; s++) {
    const int at = (s * 32 + lane) * 2;
    if (at >= HEAD_SIZE / 2) continue;
    low[s] = unpack(load_vector<unsigned>(values + at));
    high[s] = unpack(load_vector<unsigned>(values + HEAD_SIZE / 2 + at));
    sum += low[s].x * low[s].x + low[s].y * low[s].y + high[s].x * high[s].x + high[s].y * high[s].y;
  }
#if WITH_NORM
  const bf16 *gamma = head < HEADS ? query_gamma : key_gamma;
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) sum += shuffle_xor(sum, mask);
  const float factor = rsqrtf(sum / HEAD_SIZE + epsilon);
#endif
  const float *angles = rotation + (long long)positions[row] * HEAD_SIZE;
#pragma unroll
  for (int s = 0; s < STEPS; s++) {
    const int at = (s * 32 + lane) * 2;
    if (at >= HEAD_SIZE / 2) continue;
#if WITH_NORM
    const float2 low_gamma = unpack(load_vector<unsigned>(gamma + at));
    const float2 high_gamma = unpack(load_vector<unsigned>(gamma + HEAD_SIZE / 2 + at));
    low[s] = {low[s].x * factor * low_gamma.x, low[s].y * factor * low_gamma.y};
    high[s] = {high[s].x * factor * high_gamma.x, high[s].y * factor * high_gamma.y};
#endif
    const float2 first = load_vector<float2>(angles + 2 * at);
    const float2 second = load_vector<float2>(angles + 2 * at + 2);
    store_vector<unsigned>(values + at, pack_bf16(low[s].x * first.x - high[s].x * first.y,
                                                  low[s].y * second.x - high[s].y * second.y));
    store_vector<unsigned>(values + HEAD_SIZE / 2 + at, pack_bf16(high[s].x * first.x + low[s].x * first.y,
                                                                  high[s].y * second.x + low[s].y * second.y));
  }
}
