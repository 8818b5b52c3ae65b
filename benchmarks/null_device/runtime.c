// The CUDA runtime but for memory: the device's facts, streams, events, graph capture, and launches, which are counted.
#include "core.h"
#include "device.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static __thread int current_device;

// ---- the device

API cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}

API cudaError_t cudaGetDevice(int *device) {
  *device = current_device;
  return cudaSuccess;
}

API cudaError_t cudaSetDevice(int device) {
  current_device = device;
  return cudaSuccess;
}

API cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDA_VERSION_SAID;
  return cudaSuccess;
}

API cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDA_VERSION_SAID;
  return cudaSuccess;
}

API cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int) {
  *properties = (struct cudaDeviceProp){
      .name = DEVICE_NAME,
      .uuid = {.bytes = "null device"},
      .totalGlobalMem = null_capacity(),
      .sharedMemPerBlock = SHARED_OF_BLOCK,
      .sharedMemPerBlockOptin = SHARED_OF_BLOCK_OPT_IN,
      .sharedMemPerMultiprocessor = SHARED_OF_MULTIPROCESSOR,
      .regsPerBlock = REGISTERS,
      .regsPerMultiprocessor = REGISTERS,
      .warpSize = WARP,
      .memPitch = LARGEST_GRID_X,
      .maxThreadsPerBlock = THREADS_OF_BLOCK,
      .maxThreadsPerMultiProcessor = THREADS_OF_MULTIPROCESSOR,
      .maxBlocksPerMultiProcessor = BLOCKS_OF_MULTIPROCESSOR,
      .maxThreadsDim = {THREADS_OF_BLOCK, THREADS_OF_BLOCK, 64},
      .maxGridSize = {LARGEST_GRID_X, LARGEST_GRID_YZ, LARGEST_GRID_YZ},
      .totalConstMem = 65536,
      .major = CAPABILITY_MAJOR,
      .minor = CAPABILITY_MINOR,
      .textureAlignment = 512,
      .multiProcessorCount = MULTIPROCESSORS,
      .l2CacheSize = L2_BYTES,
      .memoryBusWidth = MEMORY_BUS_BITS,
      .asyncEngineCount = 3,
      .canMapHostMemory = 1,
      .concurrentKernels = 1,
      .unifiedAddressing = 1,
      .managedMemory = 1,
      .cooperativeLaunch = 1,
      .clusterLaunch = 1,
      .streamPrioritiesSupported = 1,
      .memoryPoolsSupported = 1,
  };
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED_OF_BLOCK; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_OF_BLOCK_OPT_IN; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = SHARED_OF_MULTIPROCESSOR; break;
    case cudaDevAttrMultiProcessorCount: *value = MULTIPROCESSORS; break;
    case cudaDevAttrComputeCapabilityMajor: *value = CAPABILITY_MAJOR; break;
    case cudaDevAttrComputeCapabilityMinor: *value = CAPABILITY_MINOR; break;
    case cudaDevAttrWarpSize: *value = WARP; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = THREADS_OF_BLOCK; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = THREADS_OF_MULTIPROCESSOR; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = BLOCKS_OF_MULTIPROCESSOR; break;
    case cudaDevAttrMaxGridDimX: *value = LARGEST_GRID_X; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *value = LARGEST_GRID_YZ; break;
    case cudaDevAttrL2CacheSize: *value = L2_BYTES; break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = REGISTERS; break;
    default: *value = 1;  // the others that are asked for say whether something is supported
  }
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
  snprintf(text, (size_t)size, "0000:%02x:00.0", (unsigned)device);
  return cudaSuccess;
}

API cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) {
  *can = 1;
  return cudaSuccess;
}

API const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory (null device)" : "an error of the null device";
}

API const char *cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

API cudaError_t cudaDeviceSynchronize(void) {
  null_wait("cudaDeviceSynchronize");
  return cudaSuccess;
}

// ---- graph capture: a flag, under which the host may not wait; a graph holds nothing

static int is_capturing;

API cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode) {
  is_capturing = 1;
  return cudaSuccess;
}

API cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
  is_capturing = 0;
  *graph = null_handle();
  return cudaSuccess;
}

API cudaError_t cudaStreamIsCapturing(cudaStream_t, enum cudaStreamCaptureStatus *status) {
  *status = is_capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
                                         unsigned long long *id, cudaGraph_t *graph, const cudaGraphNode_t **nodes,
                                         const cudaGraphEdgeData **, size_t *count) {
  if (id != NULL) *id = (unsigned long long)is_capturing;
  if (graph != NULL) *graph = NULL;
  if (nodes != NULL) *nodes = NULL;
  if (count != NULL) *count = 0;
  return cudaStreamIsCapturing(stream, status);
}

API cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t, unsigned long long) {
  *executable = (cudaGraphExec_t)null_handle();
  return cudaSuccess;
}

API cudaError_t cudaGraphGetNodes(cudaGraph_t, cudaGraphNode_t *, size_t *count) {
  *count = 1;
  return cudaSuccess;
}

API cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  null_count(KERNEL, "graph", 0);
  return cudaSuccess;
}

// ---- streams and events

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) {
  *stream = null_handle();
  return cudaSuccess;
}

API cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

API cudaError_t cudaStreamGetPriority(cudaStream_t, int *priority) {
  *priority = 0;
  return cudaSuccess;
}

API cudaError_t cudaStreamSynchronize(cudaStream_t) {
  if (is_capturing) return cudaErrorStreamCaptureUnsupported;
  null_wait("cudaStreamSynchronize");
  return cudaSuccess;
}

API cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  null_count(STREAM_WAIT, "cudaStreamWaitEvent", 0);
  return cudaSuccess;
}

API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = calloc(1, sizeof(struct timespec));
  return *event != NULL ? cudaSuccess : cudaErrorUnknown;
}

API cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  free(event);
  return cudaSuccess;
}

API cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t, unsigned) {
  clock_gettime(CLOCK_MONOTONIC, (struct timespec *)event);
  return cudaSuccess;
}

API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}

API cudaError_t cudaEventSynchronize(cudaEvent_t) {
  null_wait("cudaEventSynchronize");
  return cudaSuccess;
}

// The host's time between two records: the device takes none.
API cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const struct timespec *from = (struct timespec *)begin, *to = (struct timespec *)end;
  *milliseconds = 1e3f * (float)(to->tv_sec - from->tv_sec) + 1e-6f * (float)(to->tv_nsec - from->tv_nsec);
  return cudaSuccess;
}

API cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void *data) {
  function(data);
  return cudaSuccess;
}

API cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void *data, unsigned) {
  function(stream, cudaSuccess, data);
  return cudaSuccess;
}

// ---- kernels: a library registers each under the address of a host function, by which it is launched

#define NUM_FUNCTIONS (1u << 18)

static struct {
  const void *function;
  const char *name;
} functions[NUM_FUNCTIONS];
static pthread_mutex_t functions_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t function_slot(const void *function) {
  uint32_t slot = (uint32_t)(((uint64_t)(uintptr_t)function * 0x9E3779B97F4A7C15ull) >> 40) % NUM_FUNCTIONS;
  while (functions[slot].function != NULL && functions[slot].function != function) slot = (slot + 1) % NUM_FUNCTIONS;
  return slot;
}

API void **__cudaRegisterFatBinary(void *) {
  static void *binary[8];
  return binary;
}

API char __cudaInitModule(void **) { return 1; }

API void __cudaRegisterFunction(void **, const char *function, char *, const char *name, int, void *, void *, void *,
                                void *, int *) {
  static uint32_t count;
  pthread_mutex_lock(&functions_lock);
  uint32_t slot = function_slot(function);
  functions[slot].name = name;
  functions[slot].function = function;
  if (++count > NUM_FUNCTIONS * 3 / 4) {
    fprintf(stderr, "null device: the table of kernels is full.\n");
    abort();
  }
  pthread_mutex_unlock(&functions_lock);
}

static cudaError_t launch(const void *function, dim3 grid) {
  const char *name = functions[function_slot(function)].name;
  null_count(KERNEL, name != NULL ? name : "not registered", (uint64_t)grid.x * grid.y * grid.z);
  return cudaSuccess;
}

static __thread struct configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} pushed[8];
static __thread int num_pushed;

API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
  if (num_pushed == (int)(sizeof pushed / sizeof *pushed)) return 1;
  pushed[num_pushed++] = (struct configuration){grid, block, shared, stream};
  return 0;
}

API cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  const struct configuration *last = &pushed[--num_pushed];
  *grid = last->grid;
  *block = last->block;
  *shared = last->shared;
  *(cudaStream_t *)stream = last->stream;
  return cudaSuccess;
}

API cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
  *kernel = (cudaKernel_t)function;
  return cudaSuccess;
}

API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3, void **, size_t, cudaStream_t) {
  return launch(kernel, grid);
}

API cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3, void **, size_t, cudaStream_t) {
  return launch(function, grid);
}

API cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3, void **, size_t, cudaStream_t) {
  return launch(function, grid);
}

API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *configuration, const void *function, void **) {
  return launch(function, configuration->gridDim);
}

API cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *) {
  *attributes = (struct cudaFuncAttributes){
      .maxThreadsPerBlock = THREADS_OF_BLOCK,
      .numRegs = 64,
      .ptxVersion = 10 * CAPABILITY_MAJOR + CAPABILITY_MINOR,
      .binaryVersion = 10 * CAPABILITY_MAJOR + CAPABILITY_MINOR,
      .maxDynamicSharedSizeBytes = SHARED_OF_BLOCK,
  };
  return cudaSuccess;
}

API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int, size_t,
                                                                       unsigned) {
  *blocks = 2;
  return cudaSuccess;
}

API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads,
                                                              size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

API cudaError_t cudaGetSymbolAddress(void **pointer, const void *) {
  *pointer = null_addresses(1 << 20);
  return cudaSuccess;
}

// A function of the driver that we do not have.
static int missing_driver_function(void) {
  null_count(STUB, "a function of the driver that no stand-in has", 0);
  return 0;
}

API cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long,
                                                 enum cudaDriverEntryPointQueryResult *result) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  *function = driver != NULL ? dlsym(driver, name) : NULL;
  if (*function == NULL) *function = (void *)missing_driver_function;
  if (result != NULL) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
