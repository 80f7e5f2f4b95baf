// output = softmax(scale * query · keysᵀ) · values for sequences laid end to end, no padding: FlashAttention-2.
//   qkv bf16 [tokens, (HEADS + 2 * KV_HEADS) * HEAD_SIZE]: query heads, key heads, value heads; output bf16
//   [tokens, HEADS * HEAD_SIZE]; tiles i32 [blocks, 4]: first token of a sequence, its length, first query in it, 0; length 0
//   for blocks without work; scale_log2 = scale * log2(e). -DCAUSAL, -DHEAD_SIZE 32, 64 or 128.
//   Grid: [tiles, HEADS]; a block has 64 queries, a warp 16 of them; keys and values come 64 at a time, the next under way
//   while these are used. Bound by the tensor cores (mma.m16n8k16, sm_80 and later). arXiv:2307.08691
#include "ptx.cuh"

#define NEGATIVE_INFINITY __uint_as_float(0xff800000u)

using bf16 = unsigned short;
constexpr int WARPS = 4;
constexpr int TILE = 64;
constexpr int ROW = (HEADS + 2 * KV_HEADS) * HEAD_SIZE;
// Pieces of 16 bytes in a row of a tile; rows lie swizzled, so that 8 rows of one column are in 8 different banks.
constexpr int PIECES = HEAD_SIZE / 8;
constexpr int SWIZZLE = PIECES < 8 ? PIECES : 8;
constexpr int KEY_STEPS = TILE / 16;
constexpr int HEAD_STEPS = HEAD_SIZE / 16;

__device__ __forceinline__ bf16 *piece_of(bf16 *tile, int row, int piece) {
  return tile + row * HEAD_SIZE + (piece ^ (row / (8 / SWIZZLE) % SWIZZLE)) * 8;
}

// Enqueues the copy of rows first .. first + 63 of a sequence; zeros beyond its end.
__device__ __forceinline__ void load_tile(bf16 *tile, const bf16 *from, int first, int length) {
#pragma unroll
  for (int i = 0; i < TILE * PIECES / (WARPS * 32); i++) {
    const int index = i * WARPS * 32 + threadIdx.x, row = index / PIECES, piece = index % PIECES;
    const bool is_valid = first + row < length;
    copy_async_16(piece_of(tile, row, piece), from + (long long)(is_valid ? first + row : 0) * ROW + piece * 8, is_valid);
  }
}

extern "C" __global__ __launch_bounds__(WARPS * 32) void flash_attention(const bf16 *__restrict__ qkv,
                                                                         bf16 *__restrict__ output,
                                                                         const int4 *__restrict__ tiles,
                                                                         float scale_log2) {
  DYNAMIC_SHARED(shared);
  bf16 *query_tile = reinterpret_cast<bf16 *>(shared);
  bf16 *key_tiles = query_tile + TILE * HEAD_SIZE;
  bf16 *value_tiles = key_tiles + 2 * TILE * HEAD_SIZE;

  const int4 tile = load_vector<int4>(tiles + blockIdx.x);
  const int begin = tile.x, length = tile.y, first_query = tile.z;
  if (length == 0) return;
  const int head = blockIdx.y, kv_head = head / (HEADS / KV_HEADS);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  const bf16 *sequence = qkv + (long long)begin * ROW;
  const bf16 *keys = sequence + (HEADS + kv_head) * HEAD_SIZE;
  const bf16 *values = keys + KV_HEADS * HEAD_SIZE;

  load_tile(query_tile, sequence + head * HEAD_SIZE, first_query, length);
  load_tile(key_tiles, keys, 0, length);
  load_tile(value_tiles, values, 0, length);
  copy_async_commit();

  const int last_key = CAUSAL && first_query + TILE < length ? first_query + TILE : length;
  const int tile_count = (last_key + TILE - 1) / TILE;
  // The rows of this lane: those of the accumulators' first and second half.
  const int queries[2] = {first_query + warp * 16 + group, first_query + warp * 16 + group + 8};

  unsigned query[HEAD_STEPS][4];
  float sums[HEAD_STEPS * 2][4] = {};
  float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, total[2] = {0, 0};

  for (int t = 0; t < tile_count; t++) {
    bf16 *key_tile = key_tiles + t % 2 * TILE * HEAD_SIZE;
    bf16 *value_tile = value_tiles + t % 2 * TILE * HEAD_SIZE;
    if (t + 1 < tile_count) {
      load_tile(key_tiles + (t + 1) % 2 * TILE * HEAD_SIZE, keys, (t + 1) * TILE, length);
      load_tile(value_tiles + (t + 1) % 2 * TILE * HEAD_SIZE, values, (t + 1) * TILE, length);
      copy_async_commit();
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();

    if (t == 0) {
#pragma unroll
      for (int h = 0; h < HEAD_STEPS; h++)
        load_matrices(query[h], piece_of(query_tile, warp * 16 + lane % 16, h * 2 + lane / 16));
    }

    // scores [16, 64] = query · keysᵀ
    float scores[KEY_STEPS * 2][4] = {};
#pragma unroll
    for (int h = 0; h < HEAD_STEPS; h++)
#pragma unroll
      for (int k = 0; k < KEY_STEPS; k++) {
        unsigned key[4];
        load_matrices(key, piece_of(key_tile, k * 16 + lane / 16 * 8 + lane % 8, h * 2 + lane / 8 % 2));
        multiply_accumulate(scores[2 * k], query[h], key[0], key[1]);
        multiply_accumulate(scores[2 * k + 1], query[h], key[2], key[3]);
      }

    // Keys beyond the end, and after the query, do not count.
    const int first_key = t * TILE;
    if (first_key + TILE > length || (CAUSAL && first_key + TILE > first_query + warp * 16)) {
#pragma unroll
      for (int k = 0; k < KEY_STEPS * 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int key = first_key + k * 8 + member * 2 + i % 2;
          if (key >= length || (CAUSAL && key > queries[i / 2])) scores[k][i] = NEGATIVE_INFINITY;
        }
    }

    // Each row's new maximum rescales what was summed up so far.
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float highest = largest[half];
#pragma unroll
      for (int k = 0; k < KEY_STEPS * 2; k++)
        highest = fmaxf(highest, fmaxf(scores[k][2 * half], scores[k][2 * half + 1]));
      highest = fmaxf(highest, shuffle_xor(highest, 1));
      highest = fmaxf(highest, shuffle_xor(highest, 2));
      // The first tile has key 0, which every query sees: never minus infinity.
      const float factor = exp2_approximate((largest[half] - highest) * scale_log2);
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
      total[half] = total[half] * factor + sum;
#pragma unroll
      for (int h = 0; h < HEAD_STEPS * 2; h++) {
        sums[h][2 * half] *= factor;
        sums[h][2 * half + 1] *= factor;
      }
    }

    // sums [16, HEAD_SIZE] += scores · values; the accumulators of the scores are the operand's fragments as they lie.
#pragma unroll
    for (int k = 0; k < KEY_STEPS; k++) {
      const unsigned weights[4] = {
          pack_bf16(scores[2 * k][0], scores[2 * k][1]), pack_bf16(scores[2 * k][2], scores[2 * k][3]),
          pack_bf16(scores[2 * k + 1][0], scores[2 * k + 1][1]), pack_bf16(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
      for (int h = 0; h < HEAD_STEPS; h++) {
        unsigned value[4];
        load_matrices_transposed(value, piece_of(value_tile, k * 16 + lane % 16, h * 2 + lane / 16));
        multiply_accumulate(sums[2 * h], weights, value[0], value[1]);
        multiply_accumulate(sums[2 * h + 1], weights, value[2], value[3]);
      }
    }
    // The next copies go where these tiles are.
    __syncthreads();
  }

  // Through the warp's own rows of the query tile, which nobody needs any more, so that rows leave in pieces of 16 bytes.
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = total[half];
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    const float share = 1.0f / sum;
#pragma unroll
    for (int h = 0; h < HEAD_STEPS * 2; h++)
      store_vector<unsigned>(piece_of(query_tile, warp * 16 + group + 8 * half, h) + member * 2,
                             pack_bf16(sums[h][2 * half] * share, sums[h][2 * half + 1] * share));
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * PIECES / 32; i++) {
    const int index = i * 32 + lane, row = warp * 16 + index / PIECES, piece = index % PIECES;
    if (first_query + row < length)
      store_vector<uint4>(output + (long long)(begin + first_query + row) * HEADS * HEAD_SIZE + head * HEAD_SIZE + piece * 8,
                          load_vector<uint4>(piece_of(query_tile, row, piece)));
  }
}
