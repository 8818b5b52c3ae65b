// NCCL: a communicator knows its rank and size, and every collective is counted. The library's header is not needed.
#include "core.h"

#include <stdlib.h>
#include <string.h>

#define NCCL_VERSION_SAID 22809

struct communicator {
  int rank, size;
};

struct unique_id {
  char bytes[128];
};

API int ncclGetVersion(int *version) {
  *version = NCCL_VERSION_SAID;
  return 0;
}

API int ncclGetUniqueId(struct unique_id *id) {
  memset(id->bytes, 1, sizeof id->bytes);
  return 0;
}

API const char *ncclGetErrorString(int) { return "an error of the null device"; }
API const char *ncclGetLastError(void *) { return "an error of the null device"; }

API int ncclCommInitRank(struct communicator **communicator, int size, struct unique_id, int rank) {
  *communicator = malloc(256);
  if (*communicator == NULL) return 1;
  **communicator = (struct communicator){rank, size};
  return 0;
}

API int ncclCommInitRankConfig(struct communicator **communicator, int size, struct unique_id id, int rank, void *) {
  return ncclCommInitRank(communicator, size, id, rank);
}

API int ncclCommSplit(struct communicator *whole, int, int, struct communicator **part, void *) {
  return ncclCommInitRank(part, whole->size, (struct unique_id){{0}}, whole->rank);
}

API int ncclCommCount(struct communicator *communicator, int *size) {
  *size = communicator->size;
  return 0;
}

API int ncclCommUserRank(struct communicator *communicator, int *rank) {
  *rank = communicator->rank;
  return 0;
}

API int ncclCommGetAsyncError(struct communicator *, int *error) { return *error = 0; }

static int count(const char *name, size_t elements) {
  null_count(COLLECTIVE, name, elements);
  return 0;
}

API int ncclAllReduce(const void *, void *, size_t n, int, int, void *, void *) { return count("all-reduce", n); }
API int ncclAllGather(const void *, void *, size_t n, int, void *, void *) { return count("all-gather", n); }
API int ncclBroadcast(const void *, void *, size_t n, int, int, void *, void *) { return count("broadcast", n); }
API int ncclReduce(const void *, void *, size_t n, int, int, int, void *, void *) { return count("reduce", n); }
API int ncclReduceScatter(const void *, void *, size_t n, int, int, void *, void *) {
  return count("reduce-scatter", n);
}
API int ncclSend(const void *, size_t n, int, int, void *, void *) { return count("send", n); }
API int ncclRecv(void *, size_t n, int, int, void *, void *) { return count("receive", n); }

API int ncclMemAlloc(void **pointer, size_t bytes) {
  *pointer = null_addresses(bytes);
  return 0;
}
