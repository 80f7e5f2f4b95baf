/* A libcuda with the C functions the package declares, over plain memory: work is done when it is enqueued. Proves
 * prototypes, status checks and pointers of src/hardware/ffi/cuda.ts; a test reads the log of calls. */
#ifdef EMULATE
/* Kernels run too, those that test/fakes/emulated-gpu.ts compiled: an H100 as far as anyone asks, slow and strict. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/mman.h>
#endif
#include "calls.h"
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef int CUresult, CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUcontext_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmodule_st *CUmodule;
typedef struct CUfunction_st *CUfunction;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct { char bytes[16]; } CUuuid;

static __thread CUcontext current;
static char failing_api[64];
static int failing_status;

static CUresult should_fail(const char *api) {
  if (strcmp(api, failing_api) != 0) return 0;
  failing_api[0] = 0;
  return failing_status;
}
#define ENTER(...) \
  do { \
    log_call(__func__, __VA_ARGS__); \
    CUresult status = should_fail(__func__); \
    if (status != 0) return status; \
  } while (0)
#define NEED_CONTEXT() \
  do { \
    if (current == NULL) return 201; \
  } while (0)
#define PTR(p) ((unsigned long long)(uintptr_t)(p))

/* Lets the next call of `api` answer `status`. */
void fake_fail(const char *api, int status) {
  snprintf(failing_api, sizeof failing_api, "%s", api);
  failing_status = status;
}

#ifdef EMULATE
static char kernel_failure[1024];
/* The byte after the last faults when it is touched; never given back, since nobody keeps the size. */
static void *allocate(size_t bytes) {
  size_t page = sysconf(_SC_PAGESIZE), rounded = (bytes + 15) / 16 * 16;
  size_t usable = (rounded + page - 1) / page * page;
  char *base = mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(base + usable, page, PROT_NONE);
  return base + usable - rounded;
}
static void release(void *pointer) { (void)pointer; }
#else
static void *allocate(size_t bytes) { return calloc(1, bytes); }
static void release(void *pointer) { free(pointer); }
#endif

CUresult cuGetErrorName(CUresult error, const char **text) {
  *text = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 201 ? "CUDA_ERROR_INVALID_CONTEXT" : NULL;
  return *text == NULL ? 1 : 0;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
#ifdef EMULATE
  if (error == 719) {
    *text = kernel_failure;
    return 0;
  }
#endif
  *text = error == 2 ? "out of memory" : error == 201 ? "invalid device context" : NULL;
  return *text == NULL ? 1 : 0;
}
CUresult cuInit(unsigned flags) { ENTER("%u", flags); return 0; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return 0; }
CUresult cuDeviceGetCount(int *count) { *count = 2; return 0; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { ENTER("%d", ordinal); *device = ordinal; return 0; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
  snprintf(name, length, "Fake %d", device);
  return 0;
}
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  for (int i = 0; i < 16; i++) uuid->bytes[i] = (char)(0xf0 - i - device);
  return 0;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { *bytes = (192ull << 30) + device; return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  *value = attribute * 10 + device;
#ifdef EMULATE
  if (attribute == 75) *value = 9;
  if (attribute == 76) *value = 0;
  if (attribute == 38) *value = 4096;
#endif
  return 0;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  ENTER("%d", device);
  *context = (CUcontext)(uintptr_t)(0xC000 + device);
  return 0;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { ENTER("%d", device); return 0; }
CUresult cuCtxSetCurrent(CUcontext context) {
  ENTER("0x%llx", PTR(context));
  current = context;
  return 0;
}
CUresult cuCtxSynchronize(void) { ENTER("%s", ""); NEED_CONTEXT(); return 0; }
CUresult cuCtxSetLimit(int limit, size_t value) { ENTER("%d %zu", limit, value); NEED_CONTEXT(); return 0; }
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = 5ull << 30; *total = 7ull << 30; return 0; }
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  ENTER("%zu", bytes);
  NEED_CONTEXT();
  *pointer = PTR(allocate(bytes));
  return 0;
}
CUresult cuMemFree_v2(CUdeviceptr pointer) { ENTER("%s", ""); release((void *)(uintptr_t)pointer); return 0; }
CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
  ENTER("%zu %u", bytes, flags);
  NEED_CONTEXT();
  *pointer = allocate(bytes);
  return 0;
}
CUresult cuMemFreeHost(void *pointer) { ENTER("%s", ""); release(pointer); return 0; }
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *host, unsigned flags) {
  ENTER("%u", flags);
  *device = PTR(host);
  return 0;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  ENTER("%zu 0x%llx", bytes, PTR(stream));
  memcpy((void *)(uintptr_t)to, from, bytes);
  return 0;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER("%zu 0x%llx", bytes, PTR(stream));
  memcpy(to, (void *)(uintptr_t)from, bytes);
  return 0;
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER("%zu 0x%llx", bytes, PTR(stream));
  memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
  return 0;
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  ENTER("%u %zu 0x%llx", value, count, PTR(stream));
  memset((void *)(uintptr_t)to, value, count);
  return 0;
}
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  ENTER("%u", flags);
  NEED_CONTEXT();
  *stream = (CUstream)0x5000;
  return 0;
}
CUresult cuStreamDestroy_v2(CUstream stream) { ENTER("0x%llx", PTR(stream)); return 0; }
CUresult cuStreamQuery(CUstream stream) { ENTER("0x%llx", PTR(stream)); return 0; }
CUresult cuStreamSynchronize(CUstream stream) { ENTER("0x%llx", PTR(stream)); return 0; }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  ENTER("0x%llx 0x%llx %u", PTR(stream), PTR(event), flags);
  return 0;
}
CUresult cuEventCreate(CUevent *event, unsigned flags) {
  ENTER("%u", flags);
  NEED_CONTEXT();
  *event = (CUevent)0xE000;
  return 0;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  ENTER("0x%llx 0x%llx", PTR(event), PTR(stream));
  return 0;
}
CUresult cuEventQuery(CUevent event) { ENTER("0x%llx", PTR(event)); return 0; }
/* Takes its time, and tells whether a context is current on the thread it runs on. */
CUresult cuEventSynchronize(CUevent event) {
  usleep(50000);
  ENTER("0x%llx 0x%llx", PTR(event), PTR(current));
  return 0;
}
CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  ENTER("0x%llx 0x%llx", PTR(start), PTR(end));
  *milliseconds = 1.25f;
  return 0;
}
CUresult cuEventDestroy_v2(CUevent event) { ENTER("0x%llx", PTR(event)); return 0; }
#ifdef EMULATE
typedef struct { unsigned x, y, z; } dim3;
typedef const char *(*Launch)(dim3 grid, dim3 block, size_t shared_bytes, void **params);
/* The image is the path of a library. */
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  *module = dlopen(image, RTLD_NOW | RTLD_LOCAL);
  if (*module == NULL) fprintf(stderr, "%s\n", dlerror());
  return *module == NULL ? 200 : 0;
}
#else
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  ENTER("%s", (const char *)image);
  *module = (CUmodule)0xA000;
  return 0;
}
#endif
CUresult cuModuleUnload(CUmodule module) { ENTER("0x%llx", PTR(module)); return 0; }
#ifdef EMULATE
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  char symbol[128];
  snprintf(symbol, sizeof symbol, "emulate_%s", name);
  *function = dlsym(module, symbol);
  return *function == NULL ? 500 : 0;
}
#else
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  ENTER("0x%llx %s", PTR(module), name);
  *function = (CUfunction)0xF000;
  return 0;
}
#endif
CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  ENTER("%d 0x%llx", attribute, PTR(function));
  *value = attribute + 100;
  return 0;
}
CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  ENTER("0x%llx %d %d", PTR(function), attribute, value);
  return 0;
}
#ifdef EMULATE
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params,
                        void **extra) {
  (void)stream, (void)extra;
  dim3 grid = {grid_x, grid_y, grid_z}, block = {block_x, block_y, block_z};
  snprintf(kernel_failure, sizeof kernel_failure, "%s", ((Launch)function)(grid, block, shared_bytes, params));
  return kernel_failure[0] == 0 ? 0 : 719;
}
#else
/* Reads its parameters as (void *, int, float). */
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params,
                        void **extra) {
  ENTER("0x%llx %u,%u,%u %u,%u,%u %u 0x%llx (0x%llx, %d, %g) 0x%llx", PTR(function), grid_x, grid_y, grid_z, block_x,
        block_y, block_z, shared_bytes, PTR(stream), PTR(*(void **)params[0]), *(int *)params[1],
        *(float *)params[2], PTR(extra));
  return 0;
}
#endif
/* As hardware/gpu/launch-config.ts lays it out. */
typedef struct {
  unsigned grid[3], block[3], shared_bytes;
  CUstream stream;
  const struct { int id; char pad[4]; int value; char rest[60]; } *attributes;
  unsigned attribute_count;
} CUlaunchConfig;
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params, void **extra) {
#ifndef EMULATE
  ENTER("%u attributes, the first %d: %d", config->attribute_count, config->attributes[0].id,
        config->attributes[0].value);
#endif
  return cuLaunchKernel(function, config->grid[0], config->grid[1], config->grid[2], config->block[0], config->block[1],
                        config->block[2], config->shared_bytes, config->stream, params, extra);
}
CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) { ENTER("0x%llx %d", PTR(stream), mode); return 0; }
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  ENTER("0x%llx", PTR(stream));
  *graph = (CUgraph)0x6000;
  return 0;
}
CUresult cuGraphGetNodes(CUgraph graph, void *nodes, size_t *count) {
  ENTER("0x%llx %d", PTR(graph), nodes == NULL);
  *count = 3;
  return 0;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  ENTER("0x%llx %llu", PTR(graph), flags);
  *exec = (CUgraphExec)0x6100;
  return 0;
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  ENTER("0x%llx 0x%llx", PTR(exec), PTR(stream));
  return 0;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) { ENTER("0x%llx", PTR(exec)); return 0; }
CUresult cuGraphDestroy(CUgraph graph) { ENTER("0x%llx", PTR(graph)); return 0; }
