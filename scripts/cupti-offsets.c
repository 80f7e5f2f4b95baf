/* Prints where the fields that src/hardware/ffi/cupti-records.ts reads are in the records of one version of CUPTI.
 *   gcc -w -DKERNEL=CUpti_ActivityKernel10 -DMEMCPY=CUpti_ActivityMemcpy6 -DMEMSET=CUpti_ActivityMemset4 \
 *     -I include cupti-offsets.c -o cupti-offsets && ./cupti-offsets
 * `include` is that of a CUDA Toolkit, or of pip's nvidia-cuda-cupti, nvidia-cuda-runtime and nvidia-cuda-crt together; the
 * structs are the last of their names in its cupti_activity.h. */
#include <cupti_activity.h>
#include <cupti_version.h>
#include <stddef.h>
#include <stdio.h>

#define FIELD(type, field) printf(" %s %zu", #field, offsetof(type, field));

int main(void) {
  printf("API version %d\nkernel, %zu bytes:", CUPTI_API_VERSION, sizeof(KERNEL));
  FIELD(KERNEL, registersPerThread) FIELD(KERNEL, start) FIELD(KERNEL, end) FIELD(KERNEL, deviceId)
  FIELD(KERNEL, streamId) FIELD(KERNEL, gridX) FIELD(KERNEL, blockX) FIELD(KERNEL, staticSharedMemory)
  FIELD(KERNEL, dynamicSharedMemory) FIELD(KERNEL, correlationId) FIELD(KERNEL, name) FIELD(KERNEL, graphNodeId)
  FIELD(KERNEL, graphId)
  printf("\nmemcpy, %zu bytes:", sizeof(MEMCPY));
  FIELD(MEMCPY, srcKind) FIELD(MEMCPY, dstKind) FIELD(MEMCPY, bytes) FIELD(MEMCPY, start) FIELD(MEMCPY, end)
  FIELD(MEMCPY, deviceId) FIELD(MEMCPY, streamId) FIELD(MEMCPY, correlationId) FIELD(MEMCPY, graphNodeId)
  FIELD(MEMCPY, graphId)
  printf("\nmemset, %zu bytes:", sizeof(MEMSET));
  FIELD(MEMSET, bytes) FIELD(MEMSET, start) FIELD(MEMSET, end) FIELD(MEMSET, deviceId) FIELD(MEMSET, streamId)
  FIELD(MEMSET, correlationId) FIELD(MEMSET, memoryKind) FIELD(MEMSET, graphNodeId) FIELD(MEMSET, graphId)
  printf("\nAPI call, %zu bytes:", sizeof(CUpti_ActivityAPI));
  FIELD(CUpti_ActivityAPI, cbid) FIELD(CUpti_ActivityAPI, start) FIELD(CUpti_ActivityAPI, end)
  FIELD(CUpti_ActivityAPI, threadId) FIELD(CUpti_ActivityAPI, correlationId)
  printf("\n");
}
