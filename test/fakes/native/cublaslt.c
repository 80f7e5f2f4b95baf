/* A libcublasLt with the C functions the package declares: proves prototypes, status checks and structure offsets of
 * src/hardware/ffi/cublaslt.ts; a test reads the log of calls. With EMULATE it computes. The structures are those of
 * cublasLt.h 13.4. */
#include "calls.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

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
#ifdef EMULATE
/* Computes, in f64, the forms that src/hardware/gpu/matmul.ts asks for: D = alpha * op(A) op(B) + beta * C + bias with A
 * transposed, bf16 or E4M3 with scales. */
typedef struct { int type, rows, cols; long long ld; } Layout;
typedef struct { long long attributes[64]; } Desc;
enum { R_16BF = 14, TRANSA = 3, EPILOGUE = 7, BIAS = 8, A_SCALE = 17, B_SCALE = 18, A_SCALE_MODE = 31, OUTER = 3 };

int cublasLtMatmulDescCreate(void **desc, int compute, int scale) {
  (void)scale;
  *desc = calloc(1, sizeof(Desc));
  return compute == 68 ? 0 : 15;
}
int cublasLtMatmulDescDestroy(void *desc) { free(desc); return 0; }
int cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, size_t bytes) {
  desc->attributes[attribute] = 0;
  memcpy(&desc->attributes[attribute], value, bytes);
  return 0;
}
int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  Layout *made = malloc(sizeof *made);
  *made = (Layout){type, (int)rows, (int)cols, ld};
  *layout = made;
  return 0;
}
int cublasLtMatrixLayoutDestroy(void *layout) { free(layout); return 0; }
int cublasLtMatmulPreferenceCreate(void **preference) { *preference = malloc(1); return 0; }
int cublasLtMatmulPreferenceDestroy(void *preference) { free(preference); return 0; }
int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t bytes) {
  (void)preference, (void)attribute, (void)value, (void)bytes;
  return 0;
}
int cublasLtMatmulAlgoGetHeuristic(void *handle, Desc *desc, void *a, void *b, void *c, void *d, void *preference,
                                   int requested, cublasLtMatmulHeuristicResult_t *results, int *returned) {
  (void)handle, (void)a, (void)b, (void)c, (void)d, (void)preference, (void)requested;
  memset(&results[0], 0, sizeof results[0]);
  *returned = desc->attributes[TRANSA] == 1 ? 1 : 0;
  return 0;
}
int cublasLtMatmulAlgoCheck(void *handle, void *desc, void *a, void *b, void *c, void *d,
                            const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result) {
  (void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d, (void)algo;
  memset(result, 0, sizeof *result);
  return 0;
}
/* Its one algorithm has nothing to choose. */
int cublasLtMatmulAlgoGetIds(void *handle, int compute, int scale, int a, int b, int c, int d, int requested, int *ids,
                             int *returned) {
  (void)handle, (void)compute, (void)scale, (void)a, (void)b, (void)c, (void)d, (void)requested, (void)ids;
  *returned = 0;
  return 0;
}
int cublasLtMatmulAlgoInit(void *handle, int compute, int scale, int a, int b, int c, int d, int id,
                           cublasLtMatmulAlgo_t *algo) {
  (void)handle, (void)compute, (void)scale, (void)a, (void)b, (void)c, (void)d, (void)id, (void)algo;
  return 15;
}
int cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algo, int attribute, void *value, size_t bytes,
                                      size_t *written) {
  (void)algo, (void)attribute, (void)value, (void)bytes, (void)written;
  return 7;
}
int cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo, int attribute, const void *value, size_t bytes) {
  (void)algo, (void)attribute, (void)value, (void)bytes;
  return 7;
}
int cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo, int attribute, void *value, size_t bytes,
                                         size_t *written) {
  (void)algo, (void)attribute, (void)value, (void)bytes, (void)written;
  return 7;
}
static float from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}
static uint16_t to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return isnan(value) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static float from_e4m3(uint8_t bits) {
  int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return NAN;
  float size = exponent == 0 ? ldexpf(mantissa, -9) : ldexpf(8 + mantissa, exponent - 10);
  return bits & 0x80 ? -size : size;
}
/* Element i of column j. */
static float element(const Layout *layout, const void *matrix, int i, int j) {
  size_t at = (size_t)j * layout->ld + i;
  return layout->type == R_16BF ? from_bf16(((const uint16_t *)matrix)[at]) : from_e4m3(((const uint8_t *)matrix)[at]);
}
int cublasLtMatmul(void *handle, Desc *desc, const float *alpha, const void *A, Layout *a, const void *B, Layout *b,
                   const float *beta, const void *C, Layout *c, uint16_t *D, Layout *d, const cublasLtMatmulAlgo_t *algo,
                   void *workspace, size_t bytes, void *stream) {
  (void)handle, (void)algo, (void)workspace, (void)bytes, (void)stream;
  const float *a_scale = (const float *)desc->attributes[A_SCALE], *b_scale = (const float *)desc->attributes[B_SCALE];
  const uint16_t *bias = desc->attributes[EPILOGUE] & 4 ? (const uint16_t *)desc->attributes[BIAS] : NULL;
  int by_row = desc->attributes[A_SCALE_MODE] == OUTER;
  float *wide = malloc(sizeof(float) * a->rows * a->cols);
  for (int i = 0; i < a->cols; i++)
    for (int k = 0; k < a->rows; k++) wide[i * a->rows + k] = element(a, A, k, i);
  float *column = malloc(sizeof(float) * b->rows);
  for (int j = 0; j < d->cols; j++) {
    for (int k = 0; k < b->rows; k++) column[k] = element(b, B, k, j);
    for (int i = 0; i < d->rows; i++) {
      double sum = 0;
      for (int k = 0; k < a->rows; k++) sum += (double)wide[i * a->rows + k] * column[k];
      sum *= *alpha;
      if (a_scale != NULL) sum *= a_scale[by_row ? i : 0];
      if (b_scale != NULL) sum *= b_scale[by_row ? j : 0];
      if (bias != NULL) sum += from_bf16(bias[i]);
      if (*beta != 0) sum += *beta * element(c, C, i, j);
      D[(size_t)j * d->ld + i] = to_bf16((float)sum);
    }
  }
  free(wide);
  free(column);
  return 0;
}
#else
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
int cublasLtMatmulAlgoGetIds(void *handle, int compute, int scale, int a, int b, int c, int d, int requested, int *ids,
                             int *returned) {
  log_call(__func__, "%#llx %d %d %d %d %d %d %d", PTR(handle), compute, scale, a, b, c, d, requested);
  ids[0] = 6;
  ids[1] = 66;
  *returned = 2;
  return 0;
}
int cublasLtMatmulAlgoInit(void *handle, int compute, int scale, int a, int b, int c, int d, int id,
                           cublasLtMatmulAlgo_t *algo) {
  log_call(__func__, "%#llx %d %d %d %d %d %d %d", PTR(handle), compute, scale, a, b, c, d, id);
  for (int i = 0; i < 8; i++) algo->data[i] = 0x1000 * id + i;
  return 0;
}
/* Two tiles, three stages. */
int cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algo, int attribute, uint32_t *value, size_t bytes,
                                      size_t *written) {
  log_call(__func__, "%#llx %d %zu", (unsigned long long)algo->data[0], attribute, bytes);
  size_t count = attribute == 6 ? 2 : attribute == 13 ? 3 : 1;
  *written = count * 4;
  if (bytes == 0) return 0;
  if (bytes != *written) return 7;
  for (size_t i = 0; i < count; i++) value[i] = attribute + i;
  return 0;
}
int cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo, int attribute, const void *value, size_t bytes) {
  log_attribute(__func__, (void *)algo->data[0], attribute, value, bytes);
  memcpy(&algo->data[7], value, bytes);
  return 0;
}
int cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo, int attribute, void *value, size_t bytes,
                                         size_t *written) {
  log_call(__func__, "%#llx %d %zu", (unsigned long long)algo->data[0], attribute, bytes);
  memcpy(value, &algo->data[7], bytes);
  *written = bytes;
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
#endif
