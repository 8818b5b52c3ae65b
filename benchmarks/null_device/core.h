// What the stand-in libraries share: one log of calls, and one range of addresses that stands for the device's memory.
// The code is in libcudart.so, which every other stand-in is linked with.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))

// Kinds of calls; counters.py reads them from this list, in this order.
enum null_kind {
  KERNEL,      // a launch of a CUDA kernel of torch; amount: blocks
  TRITON,      // a launch through the driver, as Triton's are; amount: blocks
  PRODUCT,     // a matrix product of cuBLAS; amount: FLOPs
  COLLECTIVE,  // of NCCL; amount: elements
  FILL,        // a memset; amount: bytes, as in the copies below
  TO_DEVICE,
  TO_HOST,
  ON_DEVICE,
  WAIT,        // a call in which the host waits for the device
  ALLOCATION,  // of device memory from the driver; amount: bytes
  STREAM_WAIT, // one stream waits for another's event
  STUB,        // a function without a body of its own was called: it answered 0 and did nothing
  NUM_KINDS,
};

// Count one call. `name` is kept by its address: a literal, or text from null_name.
API void null_count(enum null_kind kind, const char *name, uint64_t amount);

// Count a call in which a real host would wait for the device, and tell Python, which looks at its own stack.
API void null_wait(const char *name);

// Return a copy of `text` that lives for ever; the same one for equal texts.
API const char *null_name(const char *text);

// Return addresses for `bytes` of device memory, never given out before; none of them can be read or written.
API void *null_addresses(size_t bytes);

// Take `bytes` from the device's capacity, or give them back where negative; nonzero where there are not so many.
API int null_take(int64_t bytes);

API int null_is_device(const void *pointer);
API int null_is_pinned(const void *pointer);
API size_t null_capacity(void);
API size_t null_taken(void);

// A new number for a stream, a graph and whatever else the caller only hands back.
API void *null_handle(void);
