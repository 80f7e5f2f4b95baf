/* A block of CUDA threads on the CPU: each thread a fiber, each warp and each block with its barriers. Kernels compiled
 * against this header instead of ptx.cuh compute what they would on a GPU, slowly; what a GPU leaves undefined is an error
 * here: shared memory not written, collectives that part of a warp misses, copies read before they were waited for. */
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static
#define DYNAMIC_SHARED(name) unsigned char *name = emulator::dynamic_shared.data()

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct dim3 { unsigned x, y, z; };
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr int warp_size = 32;
constexpr size_t stack_bytes = 64 << 10;

struct Barrier { int arrived = 0, generation = 0; };
struct Copy { void *to; const void *from; bool is_valid; };
struct Warp {
  Barrier barrier;
  const char *collective = nullptr;
  /* Two, since a lane may start the next exchange while others still read this one. */
  unsigned char slots[2][warp_size][64];
};
struct Thread {
  ucontext_t context;
  std::vector<char> stack;
  bool is_done = false;
  int exchanges = 0;
  dim3 index;
  std::vector<std::vector<Copy>> groups{{}};
};

inline std::vector<Thread> threads;
inline std::vector<Warp> warps;
inline Barrier block_barrier;
inline ucontext_t scheduler;
inline int current;
inline long progress;
inline std::string failure;
inline std::vector<unsigned char> dynamic_shared;
inline void (*body)();

inline Thread &thread() { return threads[current]; }
inline Warp &warp() { return warps[current / warp_size]; }
inline int lane() { return current % warp_size; }
inline void yield() {
  int self = current;
  swapcontext(&threads[self].context, &scheduler);
}
[[noreturn]] inline void fail(const std::string &what) {
  if (failure.empty()) failure = what + " (thread " + std::to_string(current) + ")";
  for (;;) yield();
}
inline void wait(Barrier &barrier, int expected) {
  int generation = barrier.generation;
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    barrier.generation++;
    progress++;
    return;
  }
  while (barrier.generation == generation) yield();
}
/* Gives every lane what all lanes brought. */
template <typename Value> const unsigned char (*exchange(const char *name, const Value &value))[64] {
  static_assert(sizeof(Value) <= 64);
  Warp &own = warp();
  auto slots = own.slots[thread().exchanges++ & 1];
  memcpy(slots[lane()], &value, sizeof value);
  if (own.barrier.arrived == 0) own.collective = name;
  else if (own.collective != name) fail(std::string(name) + " meets " + own.collective);
  wait(own.barrier, warp_size);
  return slots;
}
template <typename Value> Value read(const unsigned char (*slots)[64], int from) {
  Value value;
  memcpy(&value, slots[from], sizeof value);
  return value;
}
inline void check_alignment(const void *pointer, size_t bytes) {
  if ((uintptr_t)pointer % bytes != 0) fail("an address that is not aligned to " + std::to_string(bytes) + " bytes");
}
inline void start() {
  body();
  thread().is_done = true;
  progress++;
  yield();
}

/* Each warp goes as far as it can before the next one starts, the first or the last first: where a barrier is missing, one
 * overtakes the others. */
inline void run_block(bool is_reversed) {
  int count = (int)threads.size(), left = count;
  auto run_warp = [&](int first) {
    for (long before = -1; before != progress && failure.empty();) {
      before = progress;
      for (current = first; current < first + warp_size && current < count && failure.empty(); current++) {
        if (threads[current].is_done) continue;
        threadIdx = threads[current].index;
        swapcontext(&scheduler, &threads[current].context);
        if (threads[current].is_done) left--;
      }
    }
  };
  while (left > 0 && failure.empty()) {
    long before = progress;
    for (int i = 0; i < (int)warps.size(); i++) run_warp((is_reversed ? (int)warps.size() - 1 - i : i) * warp_size);
    if (progress == before && failure.empty())
      failure = std::to_string(left) + " threads wait for others that never come";
  }
}

template <typename... Args, size_t... At>
void call(void (*kernel)(Args...), void **params, std::index_sequence<At...>) {
  kernel(*(std::remove_cv_t<Args> *)params[At]...);
}

/* @returns "" or what went wrong */
template <typename... Args>
const char *launch(void (*kernel)(Args...), dim3 grid, dim3 block, size_t shared_bytes, void **params) {
  static void (*running)(Args...);
  static void **given;
  running = kernel;
  given = params;
  body = [] { call(running, given, std::index_sequence_for<Args...>{}); };
  gridDim = grid;
  blockDim = block;
  failure.clear();
  int count = block.x * block.y * block.z;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x && failure.empty(); x++) {
        blockIdx = {x, y, z};
        threads = std::vector<Thread>(count);
        warps = std::vector<Warp>((count + warp_size - 1) / warp_size);
        block_barrier = {};
        /* NaN in every type in use. */
        dynamic_shared.assign(shared_bytes, 0xff);
        for (int i = 0; i < count; i++) {
          Thread &each = threads[i];
          each.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
          each.stack.resize(stack_bytes);
          getcontext(&each.context);
          each.context.uc_stack.ss_sp = each.stack.data();
          each.context.uc_stack.ss_size = stack_bytes;
          each.context.uc_link = &scheduler;
          makecontext(&each.context, start, 0);
        }
        run_block(x % 2 == 1);
      }
  return failure.c_str();
}

inline float bf16_to_float(unsigned short value) {
  unsigned bits = (unsigned)value << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}
inline unsigned short float_to_bf16(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  if (std::isnan(value)) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
/* Round to nearest even, saturate at 448. */
inline unsigned char float_to_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  unsigned char sign = std::signbit(value) ? 0x80 : 0;
  double size = std::fmin(std::fabs((double)value), 448.0);
  int exponent = size == 0 ? -6 : std::max(std::ilogb(size), -6);
  double steps = std::nearbyint(std::ldexp(size, 3 - exponent));
  if (steps == 16) {
    steps = 8;
    exponent++;
  }
  if (exponent > 8 || (exponent == 8 && steps > 14)) return sign | 0x7e;
  return steps < 8 ? sign | (unsigned char)steps : sign | (unsigned char)((exponent + 7) << 3 | ((int)steps - 8));
}

inline float e4m3_to_float(unsigned char bits) {
  int exponent = bits >> 3 & 15, mantissa = bits & 7;
  float size = exponent == 15 && mantissa == 7 ? NAN
               : exponent == 0                 ? std::ldexp((float)mantissa, -9)
                                               : std::ldexp((float)(mantissa + 8), exponent - 10);
  return bits & 0x80 ? -size : size;
}

} // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::block_barrier, (int)emulator::threads.size()); }
inline void __syncwarp() { emulator::exchange("syncwarp", 0); }
inline float shuffle_xor(float value, int mask) {
  auto slots = emulator::exchange("shuffle", value);
  return emulator::read<float>(slots, emulator::lane() ^ mask);
}
inline void atomic_max(unsigned *address, unsigned value) { *address = *address < value ? value : *address; }

/* Kernels run one after the other. */
inline void let_next_start() {}
inline void wait_for_previous() {}

template <typename Vector> Vector load_vector(const void *address) {
  emulator::check_alignment(address, sizeof(Vector));
  Vector value;
  memcpy(&value, address, sizeof value);
  return value;
}
template <typename Vector> void store_vector(void *address, Vector value) {
  emulator::check_alignment(address, sizeof(Vector));
  memcpy(address, &value, sizeof value);
}

template <typename Vector> Vector load_once(const void *address) { return load_vector<Vector>(address); }

/* Lands when it is waited for; until then the target is NaN. */
inline void copy_async_16(void *shared, const void *global, bool is_valid) {
  emulator::check_alignment(shared, 16);
  if (is_valid) emulator::check_alignment(global, 16);
  memset(shared, 0xff, 16);
  emulator::thread().groups.back().push_back({shared, global, is_valid});
}
inline void copy_async_commit() { emulator::thread().groups.push_back({}); }
template <int PENDING> void copy_async_wait() {
  auto &groups = emulator::thread().groups;
  while ((int)groups.size() - 1 > PENDING) {
    for (auto &copy : groups.front()) {
      if (copy.is_valid) memcpy(copy.to, copy.from, 16);
      else memset(copy.to, 0, 16);
    }
    groups.erase(groups.begin());
  }
}

/* PTX ISA, ldmatrix: lanes 8i to 8i+7 bring the rows of matrix i; a lane gets two neighbours of row lane/4. */
inline void load_matrices(unsigned (&result)[4], const void *row) {
  emulator::check_alignment(row, 16);
  auto slots = emulator::exchange("ldmatrix", row);
  int lane = emulator::lane();
  for (int i = 0; i < 4; i++)
    memcpy(&result[i], emulator::read<const char *>(slots, 8 * i + lane / 4) + lane % 4 * 4, 4);
}
/* The same of the transposed matrices. */
inline void load_matrices_transposed(unsigned (&result)[4], const void *row) {
  emulator::check_alignment(row, 16);
  auto slots = emulator::exchange("ldmatrix.trans", row);
  int lane = emulator::lane();
  for (int i = 0; i < 4; i++) {
    unsigned short pair[2];
    for (int j = 0; j < 2; j++)
      memcpy(&pair[j], emulator::read<const char *>(slots, 8 * i + lane % 4 * 2 + j) + lane / 4 * 2, 2);
    memcpy(&result[i], pair, 4);
  }
}
/* PTX ISA, mma.m16n8k16 of bf16: the fragments as drawn there. */
inline void multiply_accumulate(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  struct Fragments { unsigned a[4], b[2]; } own{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  auto slots = emulator::exchange("mma", own);
  int lane = emulator::lane(), group = lane / 4, member = lane % 4;
  auto half = [](unsigned pair, int k) { return emulator::bf16_to_float(pair >> 16 * (k & 1)); };
  for (int i = 0; i < 4; i++) {
    int row = group + 8 * (i / 2), column = member * 2 + i % 2;
    float sum = d[i];
    for (int k = 0; k < 16; k++) {
      auto of_a = emulator::read<Fragments>(slots, row % 8 * 4 + k % 8 / 2);
      auto of_b = emulator::read<Fragments>(slots, column * 4 + k % 8 / 2);
      sum += half(of_a.a[row / 8 + 2 * (k / 8)], k) * half(of_b.b[k / 8], k);
    }
    d[i] = sum;
  }
}

/* PTX ISA, mma.m16n8k32 of E4M3. */
struct Fragment { unsigned a[4]; };
inline void multiply_accumulate_e4m3(float (&d)[4], Fragment f, unsigned b0, unsigned b1) {
  struct Fragments { unsigned a[4], b[2]; } own{{f.a[0], f.a[1], f.a[2], f.a[3]}, {b0, b1}};
  auto slots = emulator::exchange("mma e4m3", own);
  int lane = emulator::lane(), group = lane / 4, member = lane % 4;
  auto byte = [](unsigned word, int k) { return emulator::e4m3_to_float(word >> 8 * (k & 3)); };
  for (int i = 0; i < 4; i++) {
    int row = group + 8 * (i / 2), column = member * 2 + i % 2;
    float sum = d[i];
    for (int k = 0; k < 32; k++) {
      auto of_a = emulator::read<Fragments>(slots, row % 8 * 4 + k % 16 / 4);
      auto of_b = emulator::read<Fragments>(slots, column * 4 + k % 16 / 4);
      sum += byte(of_a.a[row / 8 + 2 * (k / 16)], k) * byte(of_b.b[k / 16], k);
    }
    d[i] = sum;
  }
}

inline unsigned pack_bf16(float low, float high) {
  return emulator::float_to_bf16(low) | (unsigned)emulator::float_to_bf16(high) << 16;
}
inline unsigned short pack_e4m3(float low, float high) {
  return emulator::float_to_e4m3(low) | emulator::float_to_e4m3(high) << 8;
}
inline float half_to_float(unsigned short value) {
  int exponent = value >> 10 & 31, mantissa = value & 1023;
  float size = exponent == 0 ? std::ldexp((float)mantissa, -24)
               : exponent == 31 ? (mantissa == 0 ? INFINITY : NAN)
                                : std::ldexp((float)(mantissa + 1024), exponent - 25);
  return value & 0x8000 ? -size : size;
}
inline float exp2_approximate(float value) { return std::exp2(value); }
inline float rsqrtf(float value) { return 1 / std::sqrt(value); }
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float value) { return std::exp(value); }
