/* A libcupti whose work a test makes: fake_launch stands for a kernel with a copy before and a fill after it. The structs
 * have the fields of cupti_activity.h of CUDA 13.0, or with -DCUPTI_VERSION=28 of 12.9.
 *
 * Like the real one it takes buffers on the thread that launches, returns them from a thread of its own, and answers no
 * launch while it waits for its callbacks: whoever answers them on the thread that launches waits for ever. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"

#ifndef CUPTI_VERSION
#define CUPTI_VERSION 130001
#endif

typedef struct __attribute__((packed, aligned(8))) {
  uint32_t kind;
  uint8_t cacheConfig, sharedMemoryConfig;
  uint16_t registersPerThread;
  uint32_t cacheRequested, cacheExecuted;
  uint64_t start, end, completed;
  uint32_t deviceId, contextId, streamId;
  int32_t gridX, gridY, gridZ, blockX, blockY, blockZ, staticSharedMemory, dynamicSharedMemory;
  uint32_t localMemoryPerThread, localMemoryTotal, correlationId;
  int64_t gridId;
  const char *name;
  void *reserved0;
  uint64_t queued, submitted;
  uint8_t launchType, isCarveoutRequested, carveoutRequested, padding;
  uint32_t sharedMemoryExecuted;
  uint64_t graphNodeId;
  uint32_t shmemLimitConfig, graphId;
  void *accessPolicyWindow;
  uint32_t channelID, channelType, clusterX, clusterY, clusterZ, clusterSchedulingPolicy;
  uint64_t localMemoryTotal_v2;
#if CUPTI_VERSION >= 130000
  uint32_t maxPotentialClusterSize, maxActiveClusters;
#endif
  uint8_t isDeviceLaunched, padding3[7];
} Kernel;

typedef struct __attribute__((packed, aligned(8))) {
  uint32_t kind;
  uint8_t copyKind, srcKind, dstKind, flags;
  uint64_t bytes, start, end;
  uint32_t deviceId, contextId, streamId, correlationId, runtimeCorrelationId, pad;
  void *reserved0;
  uint64_t graphNodeId;
  uint32_t graphId, channelID, channelType;
  uint8_t isDeviceLaunched, pad2[3];
  uint64_t copyCount;
} Memcpy;

typedef struct __attribute__((packed, aligned(8))) {
  uint32_t kind, value;
  uint64_t bytes, start, end;
  uint32_t deviceId, contextId, streamId, correlationId;
  uint16_t flags, memoryKind;
  uint32_t pad;
  void *reserved0;
  uint64_t graphNodeId;
  uint32_t graphId, channelID, channelType;
  uint8_t isDeviceLaunched, pad2[3];
} Memset;

typedef struct __attribute__((packed, aligned(8))) {
  uint32_t kind, cbid;
  uint64_t start, end;
  uint32_t processId, threadId, correlationId, returnValue;
} Api;

typedef void (*Requested)(uint8_t **buffer, size_t *bytes, size_t *maxRecords);
typedef void (*Completed)(void *context, uint32_t stream, uint8_t *buffer, size_t bytes, size_t valid);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Requested requested;
static Completed completed;
static uint8_t *buffer;
static size_t buffer_bytes, used, dropped;
static int is_enabled[64], is_left_out[1024];
static void *subscriber;
static uint32_t correlation;
static uint32_t version = CUPTI_VERSION;
static char failing[64];
static int failure;

void fake_set_version(uint32_t value) { version = value; }
/* The next call of `api` answers `status`. */
void fake_fail(const char *api, int status) {
  strncpy(failing, api, sizeof failing - 1);
  failure = status;
}
/* For a process of its own: FAKE_CUPTI_FAILS="cuptiActivityEnable 35" */
static void read_environment(void) {
  const char *text = getenv("FAKE_CUPTI_FAILS");
  if (text != NULL) sscanf(text, "%63s %d", failing, &failure);
}
static pthread_once_t environment_once = PTHREAD_ONCE_INIT;
static int answer(const char *api) {
  log_call(api, "%s", "");
  pthread_once(&environment_once, read_environment);
  if (failure == 0 || strcmp(api, failing) != 0) return 0;
  int status = failure;
  failure = 0;
  return status;
}
int fake_enabled_kinds(void) {
  int count = 0;
  for (int kind = 0; kind < 64; kind++) count += is_enabled[kind];
  return count;
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* On the fake's own thread, as the real one's worker does. */
static void *give_back(void *unused) {
  completed(NULL, 0, buffer, buffer_bytes, used);
  return unused;
}
static void complete(void) {
  if (buffer == NULL) return;
  pthread_t thread;
  pthread_create(&thread, NULL, give_back, NULL);
  pthread_join(thread, NULL);
  buffer = NULL;
}

static void put(const void *record, size_t bytes) {
  if (buffer != NULL && used + bytes > buffer_bytes) complete();
  if (buffer == NULL) {
    size_t maxRecords = 99;
    requested(&buffer, &buffer_bytes, &maxRecords);
    used = 0;
    if (maxRecords != 0) abort();
  }
  if (buffer == NULL) {
    dropped++;
    return;
  }
  for (size_t i = 0; i < bytes; i++) /* zeroed, as was promised by the attribute */
    if (buffer[used + i] != 0) abort();
  memcpy(buffer + used, record, bytes);
  used += bytes;
}

static void call(int kind, uint32_t cbid, uint64_t start) {
  if (!is_enabled[kind] || (kind == 4 && is_left_out[cbid])) return;
  Api api = {.kind = kind, .cbid = cbid, .start = start, .end = start + 3000, .threadId = 4711, .correlationId = correlation};
  put(&api, sizeof api);
}

static const char *const names[] = {"swiglu", "_ZN7cutlass13device_kernelEi"};

/* A copy of 1 us, a kernel of `ns` from 1 us on, a fill of 100 ns right after; `graph` 0: not in one. `ns` 0: not over. */
void fake_launch(uint32_t name, uint32_t ns, uint32_t graph) {
  pthread_mutex_lock(&lock);
  uint64_t start = now();
  correlation++;
  call(4, 307, start);
  call(5, 211, start);
  call(4, 125, start);
  if (is_enabled[1]) {
    Memcpy copy = {.kind = 1, .copyKind = 1, .srcKind = 2, .dstKind = 3, .bytes = 4096, .start = start, .end = start + 1000,
                   .deviceId = 1, .streamId = 13, .correlationId = correlation, .graphNodeId = graph ? 70 : 0, .graphId = graph};
    put(&copy, sizeof copy);
  }
  if (is_enabled[10]) {
    Kernel kernel = {.kind = 10, .registersPerThread = 168, .start = start + 1000, .end = ns == 0 ? 0 : start + 1000 + ns,
                     .deviceId = 1, .contextId = 2, .streamId = 13, .gridX = 132, .gridY = 2, .gridZ = 3, .blockX = 384,
                     .blockY = 1, .blockZ = 1, .staticSharedMemory = 1024, .dynamicSharedMemory = 200000,
                     .correlationId = correlation, .name = names[name], .graphNodeId = graph ? 71 : 0, .graphId = graph};
    put(&kernel, sizeof kernel);
  }
  if (is_enabled[2]) {
    Memset fill = {.kind = 2, .bytes = 512, .start = start + 1000 + ns, .end = start + 1100 + ns, .deviceId = 1, .streamId = 13,
                   .correlationId = correlation, .memoryKind = 3, .graphNodeId = graph ? 72 : 0, .graphId = graph};
    put(&fill, sizeof fill);
  }
  pthread_mutex_unlock(&lock);
}
void fake_launch_many(uint32_t count) {
  for (uint32_t i = 0; i < count; i++) fake_launch(i % 2, 2000, 0);
}

/* Launches on a thread of its own until fake_stop, as a server does while it is profiled. */
static pthread_t server;
static volatile int is_serving;
static void *serve(void *unused) {
  for (uint32_t i = 0; is_serving; i++) {
    fake_launch(i % 2, 2000, 0);
    usleep(20);
  }
  return unused;
}
void fake_serve(void) {
  is_serving = 1;
  pthread_create(&server, NULL, serve, NULL);
}
void fake_stop(void) {
  is_serving = 0;
  pthread_join(server, NULL);
}

int cuptiGetVersion(uint32_t *value) {
  *value = version;
  return answer("cuptiGetVersion");
}
int cuptiGetResultString(int status, const char **text) {
  *text = status == 35 ? "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES" : status == 39 ? "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED" : "CUPTI_ERROR_UNKNOWN";
  return 0;
}
int cuptiGetTimestamp(uint64_t *timestamp) {
  *timestamp = now();
  return answer("cuptiGetTimestamp");
}
int cuptiGetCallbackName(int domain, uint32_t cbid, const char **name) {
  *name = domain == 1 ? (cbid == 307 ? "cuLaunchKernel" : "cuStreamQuery") : "cudaLaunchKernel_v7000";
  return answer("cuptiGetCallbackName");
}
/* The real one's worker lives as long as the process: code of a closed library would be gone under it. */
static void *work(void *unused) {
  for (;;) usleep(10);
  return unused;
}
static void start_worker(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, work, NULL);
  pthread_detach(thread);
}
static pthread_once_t worker_once = PTHREAD_ONCE_INIT;

int cuptiSubscribe(void **handle, void *callback, void *userdata) {
  pthread_once(&worker_once, start_worker);
  int status = answer("cuptiSubscribe");
  if (status != 0) return status;
  if (subscriber != NULL) return 39;
  *handle = subscriber = callback;
  return 0;
}
int cuptiUnsubscribe(void *handle) {
  if (handle == NULL || handle != subscriber) return 1;
  subscriber = NULL;
  return answer("cuptiUnsubscribe");
}
int cuptiActivitySetAttribute(int attribute, size_t *bytes, void *value) {
  if (attribute != 5 || *bytes != 1 || *(uint8_t *)value != 1) return 1;
  return answer("cuptiActivitySetAttribute");
}
int cuptiActivityRegisterCallbacks(Requested request, Completed complete_) {
  requested = request;
  completed = complete_;
  return answer("cuptiActivityRegisterCallbacks");
}
int cuptiActivityEnable(int kind) {
  pthread_mutex_lock(&lock);
  int status = answer("cuptiActivityEnable");
  if (status == 0) is_enabled[kind] = 1;
  pthread_mutex_unlock(&lock);
  /* For a process of its own, whose GPU is a fake too: FAKE_CUPTI_SERVES=1 launches while kernels are recorded. */
  if (status == 0 && kind == 10 && getenv("FAKE_CUPTI_SERVES") != NULL) fake_serve();
  return status;
}
int cuptiActivityDisable(int kind) {
  if (is_serving && kind == 10 && getenv("FAKE_CUPTI_SERVES") != NULL) fake_stop();
  pthread_mutex_lock(&lock);
  is_enabled[kind] = 0;
  int status = answer("cuptiActivityDisable");
  pthread_mutex_unlock(&lock);
  return status;
}
#if CUPTI_VERSION >= 23
int cuptiActivityEnableDriverApi(uint32_t cbid, uint8_t enable) {
  if (!is_enabled[4]) return 1;
  is_left_out[cbid] = !enable;
  return answer("cuptiActivityEnableDriverApi");
}
#endif
int cuptiActivityFlushAll(uint32_t flag) {
  pthread_mutex_lock(&lock);
  int status = answer("cuptiActivityFlushAll");
  if (status == 0 && flag == 1) complete();
  pthread_mutex_unlock(&lock);
  return status;
}
int cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *count) {
  *count = dropped;
  dropped = 0;
  return answer("cuptiActivityGetNumDroppedRecords");
}
static size_t size_of(uint32_t kind) {
  return kind == 10 ? sizeof(Kernel) : kind == 1 ? sizeof(Memcpy) : kind == 2 ? sizeof(Memset) : sizeof(Api);
}
int cuptiActivityGetNextRecord(uint8_t *from, size_t valid, uint8_t **record) {
  if (from == NULL) return 1;
  uint8_t *next = *record == NULL ? from : *record + size_of(*(uint32_t *)*record);
  if (next >= from + valid) return 12;
  *record = next;
  return 0;
}
