// cuBLASLt: descriptors keep what a product's count needs of them. The library's headers are not needed.
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRANSPOSE_A = 3, EPILOGUE = 7, DEFAULT_EPILOGUE = 1 };  // of cublasLtMatmulDescAttributes_t, cublasLtEpilogue_t
enum { DESCRIPTOR_BYTES = 256, RESULT_BYTES = 96 };            // a result is one cublasLtMatmulHeuristicResult_t

struct layout {
  uint64_t rows, columns;
};

struct product {
  int transposes_a, epilogue;
};

static int allocate(void *descriptor) {
  *(void **)descriptor = calloc(1, DESCRIPTOR_BYTES);
  return *(void **)descriptor == NULL;
}

static int release(void *descriptor) {
  free(descriptor);
  return 0;
}

API int cublasLtMatrixLayoutCreate(struct layout **layout, int, uint64_t rows, uint64_t columns, int64_t) {
  if (allocate(layout)) return 1;
  **layout = (struct layout){rows, columns};
  return 0;
}

API int cublasLtMatrixLayoutDestroy(struct layout *layout) { return release(layout); }
API int cublasLtMatmulDescCreate(struct product **product, int, int) { return allocate(product); }
API int cublasLtMatmulDescDestroy(struct product *product) { return release(product); }
API int cublasLtMatmulPreferenceCreate(void **preference) { return allocate(preference); }
API int cublasLtMatmulPreferenceDestroy(void *preference) { return release(preference); }

API int cublasLtMatmulDescSetAttribute(struct product *product, int attribute, const void *value, size_t) {
  if (attribute == TRANSPOSE_A) product->transposes_a = *(const int *)value;
  if (attribute == EPILOGUE) product->epilogue = *(const int *)value;
  return 0;
}

API int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int, void *result,
                                       int *num_results) {
  memset(result, 0, RESULT_BYTES);
  *num_results = 1;
  return 0;
}

API int cublasLtMatmul(void *, const struct product *product, const void *, const void *, const struct layout *a,
                       const void *, const struct layout *, const void *, const void *, const struct layout *, void *,
                       const struct layout *d, const void *, void *, size_t, void *) {
  uint64_t k = product->transposes_a ? a->rows : a->columns;
  char text[128];
  snprintf(text, sizeof text, "lt %llux%llux%llu%s", (unsigned long long)d->rows, (unsigned long long)d->columns,
           (unsigned long long)k, product->epilogue > DEFAULT_EPILOGUE ? ", epilogue" : "");
  null_count(PRODUCT, null_name(text), 2 * d->rows * d->columns * k);
  return 0;
}
