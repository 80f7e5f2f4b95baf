// What the kernels need of PTX, one instruction a function: NVRTC comes without CUDA's headers, so nothing else is needed.
// test/fakes/native/cuda-emulator.h has the same functions for the CPU.
#pragma once

#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

__device__ __forceinline__ float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
__device__ __forceinline__ void atomic_max(unsigned *address, unsigned value) { atomicMax(address, value); }

// Every kernel calls both, in this order, before it reads or writes what another kernel works on: its blocks may be there
// while the one before is at work (GpuModule's `overlapping`). Pointers to what another kernel wrote are not both const and
// __restrict__, else the compiler may read them before the wait.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// 4, 8 or 16 bytes at once; the address must be a multiple of that.
template <typename Vector> __device__ __forceinline__ Vector load_vector(const void *address) {
  return *reinterpret_cast<const Vector *>(address);
}
// 16 bytes that no kernel writes and nobody reads again soon: past the L1 cache, which keeps what is read more than once.
template <typename Vector> __device__ __forceinline__ Vector load_once(const void *address) {
  Vector v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}
template <typename Vector> __device__ __forceinline__ void store_vector(void *address, Vector value) {
  *reinterpret_cast<Vector *>(address) = value;
}

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
// 16 bytes from global to shared memory past the registers; zeros where not valid, and nothing is read then.
__device__ __forceinline__ void copy_async_16(void *shared, const void *global, bool is_valid) {
  int bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most PENDING of the groups committed last are under way.
template <int PENDING> __device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four matrices of 8 x 8 16-bit values: lanes 8i to 8i+7 bring the addresses of the rows of matrix i.
__device__ __forceinline__ void load_matrices(unsigned (&result)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(unsigned (&result)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(shared_address(row))
               : "memory");
}
// d += a · b of bf16 on the tensor cores: 16 x 16 by 16 x 8.
__device__ __forceinline__ void multiply_accumulate(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of E4M3, 16 x 32 by 32 x 8. From sm_89 on; never called before.
struct Fragment {
  unsigned a[4];
};
__device__ __forceinline__ void multiply_accumulate_e4m3(float (&d)[4], Fragment f, unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 890
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(b0), "r"(b1));
#else
  __trap();
#endif
}

// Two values to two bf16, round to nearest even.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// Two values to two E4M3, round to nearest even, saturated at 448. From sm_89 on; never called before.
__device__ __forceinline__ unsigned short pack_e4m3(float low, float high) {
#if __CUDA_ARCH__ >= 890
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  __trap();
  return 0;
#endif
}
__device__ __forceinline__ float half_to_float(unsigned short value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
  return result;
}
// 2^value, about 2 ulp.
__device__ __forceinline__ float exp2_approximate(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}
