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
  if (type == 2 || device != (nvmlDevice_t)0xD000) return 3;
  *clock = 1755;
  return 0;
}
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int type, unsigned *clock) {
  *clock = type == 1 ? 1980 : 2619;
  return 0;
}

typedef struct { unsigned gpu, memory; } nvmlUtilization_t;

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
  *count = 2;
  return 0;
}
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
  if (index > 1) return 6;
  *device = (nvmlDevice_t)(0xD000ull + index);
  return 0;
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
  int is_slice = device != (nvmlDevice_t)0xD000;
  snprintf(uuid, length, is_slice ? "MIG-slice" : "GPU-f0efeeed-eceb-eae9-e8e7-e6e5e4e3e2e1");
  return 0;
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
  if (device != (nvmlDevice_t)0xD000) return 3;
  *utilization = (nvmlUtilization_t){93, 41};
  return 0;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts) {
  *milliwatts = 612345;
  return device == (nvmlDevice_t)0xD000 ? 0 : 3;
}
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *milliwatts) {
  *milliwatts = 700000;
  return device == (nvmlDevice_t)0xD000 ? 0 : 3;
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius) {
  *celsius = 64;
  return device == (nvmlDevice_t)0xD000 && sensor == 0 ? 0 : 3;
}
static unsigned long long throttle_reasons = 0x4;
void fake_throttle(unsigned long long reasons) { throttle_reasons = reasons; }
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
  *reasons = throttle_reasons;
  return device == (nvmlDevice_t)0xD000 ? 0 : 3;
}
