// output = softmax(scale * query · keysᵀ) · values for sequences laid end to end, no padding: FlashAttention-2.
//   qkv bf16 [tokens, (HEADS + 2 * KV_HEADS) * HEAD_SIZE]: query heads, key heads, value heads; output [tokens, HEADS *
//   HEAD_SIZE], bf16 or, E4M3, divided by output_scale f32 [1]; tiles i32 [blocks, 4]: first token of a sequence, its length,
//   first query in it, 0; length 0 for blocks without work; scale_log2 = scale * log2(e).
//   WITH_ROPE: queries get RMSNorm and rotation on their way in, as qk_norm_rope.cu gives them to keys: positions i32
//   [tokens], rotation f32 [positions, HEAD_SIZE / 2, 2], query_gamma bf16 [HEAD_SIZE].
//   -DCAUSAL, -DHEAD_SIZE 32, 64 or 128; -DGROUP heads of a block that share keys and values; -DWARPS a block, each with 16
//   rows; -DKEYS a tile; -DMIN_BLOCKS a multiprocessor.
//   Grid: [tiles, HEADS / GROUP]; a row is one query of one head. Keys and values come KEYS at a time, the next under way
//   while these are used. Bound by the tensor cores. arXiv:2307.08691
#include "ptx.cuh"

#define NEGATIVE_INFINITY __uint_as_float(0xff800000u)

using bf16 = unsigned short;
constexpr int ROWS = WARPS * 16;
constexpr int QUERIES = ROWS / GROUP;
constexpr int TOKEN = (HEADS + 2 * KV_HEADS) * HEAD_SIZE;
// A tile lies in panels of at most 64 columns, which are rows of 128 bytes, in pieces of 16 bytes. Those are swizzled, so
// that 8 rows of one column are in 8 different banks.
constexpr int PIECES = HEAD_SIZE / 8;
constexpr int PANEL = PIECES < 8 ? PIECES : 8;
constexpr int KEY_STEPS = KEYS / 16;
constexpr int HEAD_STEPS = HEAD_SIZE / 16;
constexpr int TILE = KEYS * HEAD_SIZE;
constexpr int STAGES = 2;
static_assert(ROWS <= 2 * KEYS, "the queries come where the second keys and values go later");

template <int HEIGHT> __device__ __forceinline__ bf16 *piece_of(bf16 *tile, int row, int piece) {
  return tile + ((piece / PANEL * HEIGHT + row) * PANEL + (piece % PANEL ^ row / (8 / PANEL) % PANEL)) * 8;
}

// Enqueues the copy of rows first .. first + KEYS - 1 of a sequence; zeros beyond its end.
__device__ __forceinline__ void load_tile(bf16 *tile, const bf16 *from, int first, int length) {
#pragma unroll
  for (int i = 0; i < KEYS * PIECES / (WARPS * 32); i++) {
    const int index = i * WARPS * 32 + threadIdx.x, row = index / PIECES, piece = index % PIECES;
    const bool is_valid = first + row < length;
    copy_async_16(piece_of<KEYS>(tile, row, piece), from + (long long)(is_valid ? first + row : 0) * TOKEN + piece * 8,
                  is_valid);
  }
}
// The same of the block's queries: those of its first head, then of the next.
__device__ __forceinline__ void load_queries(bf16 *tile, const bf16 *from, int first, int length) {
#pragma unroll
  for (int i = 0; i < ROWS * PIECES / (WARPS * 32); i++) {
    const int index = i * WARPS * 32 + threadIdx.x, row = index / PIECES, piece = index % PIECES;
    const int query = first + row % QUERIES;
    const bool is_valid = query < length;
    copy_async_16(piece_of<ROWS>(tile, row, piece),
                  from + (long long)(is_valid ? query : 0) * TOKEN + row / QUERIES * HEAD_SIZE + piece * 8, is_valid);
  }
}

__device__ __forceinline__ float2 unpack(unsigned pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

// RMSNorm and rotation of one row, which four lanes hold: registers `half` and `half + 2` of each fragment. The partner of
// column i, i + HEAD_SIZE / 2, is in the same place of another fragment.
__device__ __forceinline__ void rotate_queries(unsigned (&query)[HEAD_STEPS][4], int half, const float *angles,
                                               const bf16 *gamma, float epsilon) {
  const int member = threadIdx.x % 4;
  float sum = 0;
#pragma unroll
  for (int h = 0; h < HEAD_STEPS; h++)
#pragma unroll
    for (int i = half; i < 4; i += 2) {
      const float2 pair = unpack(query[h][i]);
      sum += pair.x * pair.x + pair.y * pair.y;
    }
  sum += shuffle_xor(sum, 1);
  sum += shuffle_xor(sum, 2);
  const float factor = rsqrtf(sum / HEAD_SIZE + epsilon);
#pragma unroll
  for (int h = 0; h < HEAD_STEPS / 2; h++)
#pragma unroll
    for (int i = half; i < 4; i += 2) {
      const int column = h * 16 + i / 2 * 8 + member * 2;
      float2 low = unpack(query[h][i]), high = unpack(query[h + HEAD_STEPS / 2][i]);
      const float2 low_gamma = unpack(load_vector<unsigned>(gamma + column));
      const float2 high_gamma = unpack(load_vector<unsigned>(gamma + HEAD_SIZE / 2 + column));
      low = {low.x * factor * low_gamma.x, low.y * factor * low_gamma.y};
      high = {high.x * factor * high_gamma.x, high.y * factor * high_gamma.y};
      const float2 first = load_vector<float2>(angles + 2 * column), second = load_vector<float2>(angles + 2 * column + 2);
      query[h][i] = pack_bf16(low.x * first.x - high.x * first.y, low.y * second.x - high.y * second.y);
      query[h + HEAD_STEPS / 2][i] = pack_bf16(high.x * first.x + low.x * first.y, high.y * second.x + low.y * second.y);
    }
}

// Keys beyond the end, and after the query, do not count: minus infinity. `queries`: of the two rows of this lane.
__device__ __forceinline__ void mask_scores(float (&scores)[KEY_STEPS * 2][4], int first_key, int length,
                                            const int (&queries)[2]) {
  const int member = threadIdx.x % 4;
#pragma unroll
  for (int k = 0; k < KEY_STEPS * 2; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int key = first_key + k * 8 + member * 2 + i % 2;
      if (key >= length || (CAUSAL && key > queries[i / 2])) scores[k][i] = NEGATIVE_INFINITY;
    }
}

// Of the two rows of a lane: what is known so far.
struct Softmax {
  float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, total[2] = {0, 0};
  // What the sums so far are to be multiplied by.
  float factor[2];

  // Scores become weights, relative to the largest score so far. The first tile has key 0, which every query sees: the largest
  // is never minus infinity.
  __device__ __forceinline__ void add(float (&scores)[KEY_STEPS * 2][4], float scale_log2) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float highest = largest[half];
#pragma unroll
      for (int k = 0; k < KEY_STEPS * 2; k++)
        highest = fmaxf(highest, fmaxf(scores[k][2 * half], scores[k][2 * half + 1]));
      highest = fmaxf(highest, shuffle_xor(highest, 1));
      highest = fmaxf(highest, shuffle_xor(highest, 2));
      factor[half] = exp2_approximate((largest[half] - highest) * scale_log2);
      largest[half] = highest;
      const float offset = highest * scale_log2;
      float sum = 0;
#pragma unroll
      for (int k = 0; k < KEY_STEPS * 2; k++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          scores[k][i] = exp2_approximate(scores[k][i] * scale_log2 - offset);
          sum += scores[k][i];
        }
      total[half] = total[half] * factor[half] + sum;
    }
  }
  __device__ __forceinline__ void rescale(float (&sums)[HEAD_STEPS * 2][4]) const {
#pragma unroll
    for (int h = 0; h < HEAD_STEPS * 2; h++)
#pragma unroll
      for (int i = 0; i < 4; i++) sums[h][i] *= factor[i / 2];
  }
};

// The accumulators of the scores are the operand's fragments as they lie.
__device__ __forceinline__ void pack_weights(unsigned (&weights)[KEY_STEPS][4], const float (&scores)[KEY_STEPS * 2][4]) {
#pragma unroll
  for (int k = 0; k < KEY_STEPS; k++)
#pragma unroll
    for (int i = 0; i < 4; i++)
      weights[k][i] = pack_bf16(scores[2 * k + i / 2][i % 2 * 2], scores[2 * k + i / 2][i % 2 * 2 + 1]);
}

// scores [16, KEYS] = query · keysᵀ
__device__ __forceinline__ void multiply_keys(float (&scores)[KEY_STEPS * 2][4], const unsigned (&query)[HEAD_STEPS][4],
                                              bf16 *tile) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < KEY_STEPS * 2; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) scores[k][i] = 0;
#pragma unroll
  for (int h = 0; h < HEAD_STEPS; h++)
#pragma unroll
    for (int k = 0; k < KEY_STEPS; k++) {
      unsigned key[4];
      load_matrices(key, piece_of<KEYS>(tile, k * 16 + lane / 16 * 8 + lane % 8, h * 2 + lane / 8 % 2));
      multiply_accumulate(scores[2 * k], query[h], key[0], key[1]);
      multiply_accumulate(scores[2 * k + 1], query[h], key[2], key[3]);
    }
}

// sums [16, HEAD_SIZE] += weights · values
__device__ __forceinline__ void add_values(float (&sums)[HEAD_STEPS * 2][4], const unsigned (&weights)[KEY_STEPS][4],
                                           bf16 *tile) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < KEY_STEPS; k++)
#pragma unroll
    for (int h = 0; h < HEAD_STEPS; h++) {
      unsigned value[4];
      load_matrices_transposed(value, piece_of<KEYS>(tile, k * 16 + lane % 16, h * 2 + lane / 16));
      multiply_accumulate(sums[2 * h], weights[k], value[0], value[1]);
      multiply_accumulate(sums[2 * h + 1], weights[k], value[2], value[3]);
    }
}

extern "C" __global__ __launch_bounds__(WARPS * 32, MIN_BLOCKS) void flash_attention(
    const bf16 *qkv, void *__restrict__ output, const int4 *__restrict__ tiles, float scale_log2,
    const float *__restrict__ output_scale, const int *__restrict__ positions, const float *__restrict__ rotation,
    const bf16 *__restrict__ query_gamma, float epsilon) {
  let_next_start();
  wait_for_previous();
  DYNAMIC_SHARED(shared);
  bf16 *stages = reinterpret_cast<bf16 *>(shared);
  const auto keys_of = [&](int stage) { return stages + stage * 2 * TILE; };
  const auto values_of = [&](int stage) { return stages + (stage * 2 + 1) * TILE; };

  const int4 tile = load_vector<int4>(tiles + blockIdx.x);
  const int begin = tile.x, length = tile.y, first_query = tile.z;
  if (length == 0) return;
  const int first_head = blockIdx.y * GROUP, kv_head = first_head / (HEADS / KV_HEADS);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  const bf16 *sequence = qkv + (long long)begin * TOKEN;
  const bf16 *keys = sequence + (HEADS + kv_head) * HEAD_SIZE;
  const bf16 *values = keys + KV_HEADS * HEAD_SIZE;

  bf16 *query_tile = keys_of(1);
  load_queries(query_tile, sequence + first_head * HEAD_SIZE, first_query, length);
  copy_async_commit();
  load_tile(keys_of(0), keys, 0, length);
  load_tile(values_of(0), values, 0, length);
  copy_async_commit();

  const int last_key = CAUSAL && first_query + QUERIES < length ? first_query + QUERIES : length;
  const int tile_count = (last_key + KEYS - 1) / KEYS;
  // The rows of this lane: those of the accumulators' first and second half.
  const int warp_query = first_query + warp * 16 % QUERIES;
  const int queries[2] = {warp_query + group, warp_query + group + 8};

  unsigned query[HEAD_STEPS][4];
  copy_async_wait<1>();
  __syncthreads();
#pragma unroll
  for (int h = 0; h < HEAD_STEPS; h++)
    load_matrices(query[h], piece_of<ROWS>(query_tile, warp * 16 + lane % 16, h * 2 + lane / 16));
#if WITH_ROPE
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int position = positions[begin + (queries[half] < length ? queries[half] : 0)];
    rotate_queries(query, half, rotation + (long long)position * HEAD_SIZE, query_gamma, epsilon);
  }
#endif

  // Keys and values of tile t are there when it returns, and those of the next under way, where no warp reads any more.
  const auto begin_tile = [&](int t) {
    copy_async_wait<0>();
    __syncthreads();
    if (t + 1 >= tile_count) return;
    load_tile(keys_of((t + 1) % STAGES), keys, (t + 1) * KEYS, length);
    load_tile(values_of((t + 1) % STAGES), values, (t + 1) * KEYS, length);
    copy_async_commit();
  };
  float sums[HEAD_STEPS * 2][4] = {}, scores[KEY_STEPS * 2][4];
  unsigned weights[KEY_STEPS][4];
  Softmax softmax;
  const auto weigh = [&](int t) {
    if ((t + 1) * KEYS > length || (CAUSAL && (t + 1) * KEYS > warp_query)) mask_scores(scores, t * KEYS, length, queries);
    softmax.add(scores, scale_log2);
  };
  for (int t = 0; t < tile_count; t++) {
    begin_tile(t);
    multiply_keys(scores, query, keys_of(t % STAGES));
    weigh(t);
    softmax.rescale(sums);
    pack_weights(weights, scores);
    add_values(sums, weights, values_of(t % STAGES));
  }
  // What comes next is written where others may still read.
  __syncthreads();

  // Through rows of shared memory that only this warp uses, so that they leave in pieces of 16 bytes.
#if E4M3
  const float inverse = 1.0f / output_scale[0];
  constexpr int BYTES = HEAD_SIZE;
#else
  constexpr int BYTES = HEAD_SIZE * 2;
#endif
  // 16 bytes more, lest the rows of a column share a bank.
  unsigned char *rows = shared + warp * 16 * (BYTES + 16);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = softmax.total[half];
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    const float share = 1.0f / sum;
    unsigned char *row = rows + (group + 8 * half) * (BYTES + 16);
#pragma unroll
    for (int h = 0; h < HEAD_STEPS * 2; h++) {
      const float first = sums[h][2 * half] * share, second = sums[h][2 * half + 1] * share;
#if E4M3
      store_vector<unsigned short>(row + h * 8 + member * 2, pack_e4m3(first * inverse, second * inverse));
#else
      store_vector<unsigned>(row + (h * 8 + member * 2) * 2, pack_bf16(first, second));
#endif
    }
  }
  __syncwarp();
  unsigned char *to = static_cast<unsigned char *>(output) +
                      ((long long)(begin + warp_query) * HEADS + first_head + warp * 16 / QUERIES) * BYTES;
#pragma unroll
  for (int i = 0; i < 16 * BYTES / 16 / 32; i++) {
    const int index = i * 32 + lane, row = index / (BYTES / 16), piece = index % (BYTES / 16);
    if (warp_query + row < length)
      store_vector<uint4>(to + (long long)row * HEADS * BYTES + piece * 16,
                          load_vector<uint4>(rows + row * (BYTES + 16) + piece * 16));
  }
}
