/* A libcublasLt with the C functions the package declares: proves prototypes, status checks and structure offsets of
 * src/hardware/ffi/cublaslt.ts; a test reads the log of calls. The structures are those of cublasLt.h 13.4. */
#include "calls.h"
#include <stdint.h>

typedef int cublasStatus_t;
typedef struct { uint64_t data[8]; } cublasLtMatmulAlgo_t;
typedef struct {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
} cublasLtMatmulHeuristicResult_t;
#define PTR(p) ((unsigned long long)(uintptr_t)(p))

static int failing_status;
void fake_fail(int status) { failing_status = status; }

size_t cublasLtGetVersion(void) { return 130401; }
const char *cublasLtGetStatusName(int status) { return status == 7 ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_OTHER"; }
const char *cublasLtGetStatusString(int status) { return status == 7 ? "invalid value" : "other"; }
int cublasLtCreate(void **handle) {
  *handle = (void *)0x1000;
  int status = failing_status;
  failing_status = 0;
  return status;
}
int cublasLtDestroy(void *handle) { log_call(__func__, "%#llx", PTR(handle)); return 0; }
int cublasLtMatmulDescCreate(void **desc, int compute, int scale) {
  log_call(__func__, "%d %d", compute, scale);
  *desc = (void *)0x2000;
  return 0;
}
int cublasLtMatmulDescDestroy(void *desc) { log_call(__func__, "%#llx", PTR(desc)); return 0; }
static void log_attribute(const char *name, void *object, int attribute, const void *value, size_t bytes) {
  long long number = 0;
  memcpy(&number, value, bytes);
  log_call(name, "%#llx %d = %#llx of %zu bytes", PTR(object), attribute, number, bytes);
}
int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value, size_t bytes) {
  log_attribute(__func__, desc, attribute, value, bytes);
  return 0;
}
static uintptr_t layouts;
int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  log_call(__func__, "%d %llu x %llu, %lld", type, (unsigned long long)rows, (unsigned long long)cols, (long long)ld);
  *layout = (void *)(0x3000 + ++layouts);
  return 0;
}
int cublasLtMatrixLayoutDestroy(void *layout) { log_call(__func__, "%#llx", PTR(layout)); return 0; }
int cublasLtMatmulPreferenceCreate(void **preference) { *preference = (void *)0x4000; return 0; }
int cublasLtMatmulPreferenceDestroy(void *preference) { log_call(__func__, "%#llx", PTR(preference)); return 0; }
int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t bytes) {
  log_attribute(__func__, preference, attribute, value, bytes);
  return 0;
}
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference,
                                   int requested, cublasLtMatmulHeuristicResult_t *results, int *returned) {
  log_call(__func__, "%#llx %#llx %#llx %#llx %#llx %#llx %#llx %d", PTR(handle), PTR(desc), PTR(a), PTR(b), PTR(c),
           PTR(d), PTR(preference), requested);
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 8; j++) results[i].algo.data[j] = 0x100 * (i + 1) + j;
    results[i].workspaceSize = i == 0 ? 5ull << 30 : 4096;
    results[i].state = i == 1 ? 15 : 0;
    results[i].wavesCount = 1;
  }
  *returned = 3;
  return 0;
}
int cublasLtMatmulAlgoCheck(void *handle, void *desc, void *a, void *b, void *c, void *d,
                            const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result) {
  (void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d;
  log_call(__func__, "%#llx", (unsigned long long)algo->data[7]);
  result->workspaceSize = 64;
  return 0;
}
int cublasLtMatmul(void *handle, void *desc, const float *alpha, const void *A, void *a, const void *B, void *b,
                   const float *beta, const void *C, void *c, void *D, void *d, const cublasLtMatmulAlgo_t *algo,
                   void *workspace, size_t bytes, void *stream) {
  log_call(__func__, "%#llx %#llx %g %#llx %#llx %#llx %#llx %g %#llx %#llx %#llx %#llx %#llx %#llx %zu %#llx", PTR(handle),
           PTR(desc), *alpha, PTR(A), PTR(a), PTR(B), PTR(b), *beta, PTR(C), PTR(c), PTR(D), PTR(d),
           (unsigned long long)algo->data[7], PTR(workspace), bytes, PTR(stream));
  return 0;
}
