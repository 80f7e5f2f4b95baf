/* A libnvidia-ml for two GPUs of the fake libcuda: the second is a slice that NVML does not know. */
#include <stdio.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

static int open_count;

int fake_open_count(void) { return open_count; }

const char *nvmlErrorString(nvmlReturn_t status) { return status == 3 ? "Not Supported" : "Not Found"; }
nvmlReturn_t nvmlInit_v2(void) { open_count++; return 0; }
nvmlReturn_t nvmlShutdown(void) { open_count--; return 0; }
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
  snprintf(version, length, "580.65.06");
  return 0;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
  if (strcmp(uuid, "GPU-f0efeeed-eceb-eae9-e8e7-e6e5e4e3e2e1") != 0) return 6;
  *device = (nvmlDevice_t)0xD000;
  return 0;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
  if (device != (nvmlDevice_t)0xD000) return 6;
  memory->total = 192ull << 30;
  memory->free = 100ull << 30;
  memory->used = 92ull << 30;
  return 0;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned *clock) {
  if (type == 2) return 3;
  *clock = 1755;
  return 0;
}
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int type, unsigned *clock) {
  *clock = type == 1 ? 1980 : 2619;
  return 0;
}
