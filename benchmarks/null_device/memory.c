// Device memory that is only counted, pinned host memory that is real, and the copies between them.
// NULL_DEVICE_BYTES is the device's capacity.
#include "core.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GRANULE ((size_t)2 << 20)           // the driver hands out memory in pieces of 2 MiB
#define ADDRESSES ((size_t)1 << 45)         // 32 TiB of addresses, each given out once
#define DEFAULT_CAPACITY 149500000000ll     // what an H200 shows, less a context
#define MOST_PINNED 65536

struct range {
  char *start;
  size_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *arena;
static size_t num_given;    // bytes of addresses given out
static size_t *allocated;   // bytes of the allocation that begins at each granule
static size_t capacity, taken, peak;
static struct range pinned[MOST_PINNED];
static int num_pinned;

static void *reserve(size_t bytes, int protection) {
  void *start = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    perror("null device: cannot reserve addresses");
    abort();
  }
  return start;
}

__attribute__((constructor)) static void start(void) {
  const char *bytes = getenv("NULL_DEVICE_BYTES");
  capacity = (size_t)(bytes != NULL ? atoll(bytes) : DEFAULT_CAPACITY);
  arena = reserve(ADDRESSES, PROT_NONE);
  allocated = reserve(ADDRESSES / GRANULE * sizeof *allocated, PROT_READ | PROT_WRITE);
}

static size_t whole_granules(size_t bytes) { return (bytes + GRANULE - 1) / GRANULE * GRANULE; }

API void *null_addresses(size_t bytes) {
  size_t first = __atomic_fetch_add(&num_given, whole_granules(bytes), __ATOMIC_RELAXED);
  if (first + bytes > ADDRESSES) {
    fprintf(stderr, "null device: all 32 TiB of addresses have been given out.\n");
    abort();
  }
  return arena + first;
}

API int null_take(int64_t bytes) {
  pthread_mutex_lock(&lock);
  int is_too_much = bytes > 0 && taken + (size_t)bytes > capacity;
  if (!is_too_much) taken += (size_t)bytes;
  if (taken > peak) peak = taken;
  pthread_mutex_unlock(&lock);
  return is_too_much;
}

API size_t null_capacity(void) { return capacity; }
API size_t null_taken(void) { return taken; }
API size_t null_peak(void) { return peak; }
API void null_set_capacity(size_t bytes) { capacity = bytes; }

API int null_is_device(const void *pointer) {
  return (const char *)pointer >= arena && (const char *)pointer < arena + ADDRESSES;
}

API int null_is_pinned(const void *pointer) {
  pthread_mutex_lock(&lock);
  int is_pinned = 0;
  for (int i = 0; i < num_pinned && !is_pinned; i++)
    is_pinned = (const char *)pointer >= pinned[i].start && (const char *)pointer < pinned[i].start + pinned[i].bytes;
  pthread_mutex_unlock(&lock);
  return is_pinned;
}

// ---- allocation

API cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  size_t whole = whole_granules(bytes);
  if (null_take((int64_t)whole)) return cudaErrorMemoryAllocation;
  *pointer = null_addresses(whole);
  allocated[(size_t)((char *)*pointer - arena) / GRANULE] = whole;
  null_count(ALLOCATION, "cudaMalloc", whole);
  return cudaSuccess;
}

API cudaError_t cudaFree(void *pointer) {
  if (pointer == NULL) return cudaSuccess;
  if (!null_is_device(pointer)) return cudaErrorInvalidValue;
  size_t *bytes = &allocated[(size_t)((char *)pointer - arena) / GRANULE];
  null_take(-(int64_t)*bytes);
  *bytes = 0;
  null_wait("cudaFree");
  return cudaSuccess;
}

API cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t) { return cudaMalloc(pointer, bytes); }
API cudaError_t cudaFreeAsync(void *pointer, cudaStream_t) { return cudaFree(pointer); }

static void pin(char *start, size_t bytes) {
  pthread_mutex_lock(&lock);
  if (num_pinned == MOST_PINNED) {
    fprintf(stderr, "null device: more than %d pinned ranges.\n", MOST_PINNED);
    abort();
  }
  pinned[num_pinned++] = (struct range){start, bytes};
  pthread_mutex_unlock(&lock);
}

// Forget the pinned range that begins at `start`; return its bytes.
static size_t unpin(const char *start) {
  pthread_mutex_lock(&lock);
  size_t bytes = 0;
  for (int i = 0; i < num_pinned; i++) {
    if (pinned[i].start == start) {
      bytes = pinned[i].bytes;
      pinned[i] = pinned[--num_pinned];
      break;
    }
  }
  pthread_mutex_unlock(&lock);
  return bytes;
}

API cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
  size_t some = bytes ? bytes : 1;
  *pointer = reserve(some, PROT_READ | PROT_WRITE);
  pin(*pointer, some);
  null_wait("cudaHostAlloc");
  return cudaSuccess;
}

API cudaError_t cudaFreeHost(void *pointer) {
  size_t bytes = unpin(pointer);
  if (bytes) munmap(pointer, bytes);
  null_wait("cudaFreeHost");
  return cudaSuccess;
}

API cudaError_t cudaHostRegister(void *pointer, size_t bytes, unsigned) {
  pin(pointer, bytes);
  null_wait("cudaHostRegister");
  return cudaSuccess;
}

API cudaError_t cudaHostUnregister(void *pointer) {
  unpin(pointer);
  return cudaSuccess;
}

API cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
  *total = capacity;
  *left = capacity - taken;
  return cudaSuccess;
}

API cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
  *attributes = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered};
  cudaGetDevice(&attributes->device);
  if (null_is_device(pointer)) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = (void *)pointer;
  } else if (null_is_pinned(pointer)) {
    attributes->type = cudaMemoryTypeHost;
    attributes->devicePointer = attributes->hostPointer = (void *)pointer;
  }
  return cudaSuccess;
}

// ---- copies: what comes from the device is zeros

static void copy(void *to, const void *from, size_t bytes, int waits) {
  int to_device = null_is_device(to), from_device = null_is_device(from);
  if (to_device && from_device) {
    null_count(ON_DEVICE, "copy", bytes);
  } else if (to_device || from_device) {
    const void *host = to_device ? from : to;
    int is_pinned = null_is_pinned(host);
    null_count(to_device ? TO_DEVICE : TO_HOST, is_pinned ? "pinned" : "pageable", bytes);
    if (from_device) memset(to, 0, bytes);
    if (waits || !is_pinned) null_wait(to_device ? "copy to the device" : "copy to the host");
  } else {
    memcpy(to, from, bytes);
  }
}

API cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind) {
  copy(to, from, bytes, 1);
  return cudaSuccess;
}

API cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind, cudaStream_t) {
  copy(to, from, bytes, 0);
  return cudaSuccess;
}

API cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t bytes, cudaStream_t) {
  copy(to, from, bytes, 0);
  return cudaSuccess;
}

API cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                  size_t height, enum cudaMemcpyKind, cudaStream_t) {
  int to_device = null_is_device(to), from_device = null_is_device(from);
  enum null_kind kind = to_device && from_device ? ON_DEVICE : to_device ? TO_DEVICE : TO_HOST;
  null_count(kind, "rows", width * height);
  for (size_t row = 0; row < height && !to_device; row++) {
    char *target = (char *)to + row * to_pitch;
    if (from_device) memset(target, 0, width);
    else memcpy(target, (const char *)from + row * from_pitch, width);
  }
  if (to_device != from_device && !null_is_pinned(to_device ? from : to)) null_wait("copy of rows");
  return cudaSuccess;
}

API cudaError_t cudaMemset(void *, int, size_t bytes) {
  null_count(FILL, "memset", bytes);
  return cudaSuccess;
}

API cudaError_t cudaMemsetAsync(void *, int, size_t bytes, cudaStream_t) {
  null_count(FILL, "memset", bytes);
  return cudaSuccess;
}
