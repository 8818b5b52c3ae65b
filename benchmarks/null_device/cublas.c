// cuBLAS: every product is counted by its shape and types. The library's headers are not needed: its types are int here.
#include "core.h"

#include <stdio.h>

enum { FP32 = 0, BF16 = 14, TRANSPOSED = 1 };  // of cudaDataType_t and cublasOperation_t

static const char *type_name(int type) { return type == FP32 ? "fp32" : type == BF16 ? "bf16" : "other"; }

// `adds` says whether the product is added to what stands in the output.
static int count(const char *what, int ta, int tb, int m, int n, int k, const char *output, int adds, int batch) {
  char text[128];
  snprintf(text, sizeof text, "%s %c%c %dx%dx%d %s%s", what, ta == TRANSPOSED ? 'T' : 'N', tb == TRANSPOSED ? 'T' : 'N',
           m, n, k, output, adds ? ", added" : "");
  null_count(PRODUCT, null_name(text), 2ull * (uint64_t)m * (uint64_t)n * (uint64_t)k * (uint64_t)batch);
  return 0;
}

API int cublasCreate_v2(void **handle) {
  *handle = null_handle();
  return 0;
}

API int cublasGetMathMode(void *, int *mode) { return *mode = 0; }
API int cublasGetPointerMode_v2(void *, int *mode) { return *mode = 0; }

API int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *, const void *, int, int, const void *,
                     int, int, const void *beta, void *, int type, int, int, int) {
  return count("gemm", ta, tb, m, n, k, type_name(type), *(const float *)beta != 0.0f, 1);
}

API int cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *, const void *, int, int,
                                   long long, const void *, int, int, long long, const void *, void *, int type, int,
                                   long long, int batch, int, int) {
  return count("batched", ta, tb, m, n, k, type_name(type), 0, batch);
}

API int cublasSgemm_v2(void *, int ta, int tb, int m, int n, int k) {
  return count("gemm", ta, tb, m, n, k, "fp32", 0, 1);
}

API int cublasDgemm_v2(void *, int ta, int tb, int m, int n, int k) {
  return count("gemm", ta, tb, m, n, k, "fp64", 0, 1);
}

API int cublasSgemv_v2(void *, int t, int m, int n) { return count("gemv", t, 0, m, n, 1, "fp32", 0, 1); }
API int cublasDgemv_v2(void *, int t, int m, int n) { return count("gemv", t, 0, m, n, 1, "fp64", 0, 1); }
