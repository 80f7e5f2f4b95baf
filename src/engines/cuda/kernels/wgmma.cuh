// Matrix products of four warps on Hopper's tensor cores, for sm_90a alone: the left operand in registers, the right one in
// shared memory. PTX ISA 8.0, wgmma. test/fakes/native/cuda-emulator.h has the same functions for the CPU.
#pragma once
#include "ptx.cuh"

// Rows of 128 bytes, swizzled by 16 bytes within each 8 rows: what piece_of makes of tiles of 64 bf16 columns.
//   Rows are the result's columns: 8 rows are `stride_bytes` from the next 8. Transposed, rows are what is summed over: 64
//   columns are `leading_bytes` from the next 64.
__device__ __forceinline__ unsigned long long describe_matrix(const void *tile, int leading_bytes, int stride_bytes) {
  return (shared_address(tile) & 0x3ffffu) >> 4 | (unsigned long long)(leading_bytes >> 4) << 16 |
         (unsigned long long)(stride_bytes >> 4) << 32 | 1ull << 62;
}
// What threads wrote to shared memory becomes visible to the tensor cores.
__device__ __forceinline__ void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most PENDING of the groups committed last are under way; `d` must not be used before.
template <int PENDING, int COUNT> __device__ __forceinline__ void wait_products(float (&d)[COUNT][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
}

#define FOUR(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
// d [64, 64] (+)= a [64, 16] · b: each warp has 16 rows, in the fragments of mma.m16n8k16.
template <int TRANSPOSED>
__device__ __forceinline__ void multiply_warpgroup(float (&d)[8][4], const unsigned (&a)[4], unsigned long long b,
                                                   int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "
               "%23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
               : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED));
}
// The same with 128 columns.
template <int TRANSPOSED>
__device__ __forceinline__ void multiply_warpgroup(float (&d)[16][4], const unsigned (&a)[4], unsigned long long b,
                                                   int accumulate) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, "
               "%23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, "
               "%44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
               "{%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}"
               : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7), FOUR(8), FOUR(9), FOUR(10),
                 FOUR(11), FOUR(12), FOUR(13), FOUR(14), FOUR(15)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED));
}
#undef FOUR
