// NVML, which torch opens by its name: one device without a fabric and without other processes.
#include "core.h"
#include "device.h"

API int nvmlInit_v2(void) { return 0; }

API int nvmlDeviceGetHandleByPciBusId_v2(const char *, void **device) {
  static char the_device;
  *device = &the_device;
  return 0;
}

// torch has cleared the answer, which then says that there is no fabric.
API int nvmlDeviceGetGpuFabricInfoV(void *, void *) { return 0; }

API int nvmlDeviceGetComputeRunningProcesses(void *, unsigned *count, void *) {
  *count = 0;
  return 0;
}

API int nvmlDeviceGetNvLinkRemoteDeviceType(void *, unsigned, int *kind) {
  *kind = 0;
  return 0;
}

API int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *, unsigned, void *) { return 0; }

API int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  *version = CUDA_VERSION_SAID;
  return 0;
}
