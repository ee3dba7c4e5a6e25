/* Matrix products by cuBLASLt, where it is there and gives every row the same bits in every batch. Each function returns
 * false when it declines, and the caller's own kernel serves. Without the library (CANDOR_CUBLASLT undefined) all decline. */
#ifndef CANDOR_COMPUTE_CUDA_LT_H
#define CANDOR_COMPUTE_CUDA_LT_H

#include "common/compute/cuda/cuda.h"

#if defined(CANDOR_CUBLASLT)

enum status lt_create(struct device *device, struct lt **out_lt);
void lt_destroy(struct lt **lt);

/* Chooses and tests an algorithm for y [R,n] = x [R,k] w^T, for its fp32 form and for its dx, over every bucket of R. */
enum status lt_prepare(struct device *device, int32_t n, int32_t k);

bool lt_matmul(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w, struct weight bias,
               int32_t R, int32_t n, int32_t k);
bool lt_matmul_f32(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n, int32_t k);
bool lt_matmul_dx(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                  int32_t n, int32_t k);
bool lt_matmul_dw(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k);

#else

static inline enum status lt_prepare(struct device *, int32_t, int32_t) {
    return STATUS_OK;
}
static inline bool lt_matmul(struct device *, void *, enum write_mode, const void *, struct weight, struct weight, int32_t,
                             int32_t, int32_t) {
    return false;
}
static inline bool lt_matmul_f32(struct device *, float *, const void *, struct weight, int32_t, int32_t, int32_t) {
    return false;
}
static inline bool lt_matmul_dx(struct device *, void *, enum write_mode, const void *, struct weight, int32_t, int32_t,
                                int32_t) {
    return false;
}
static inline bool lt_matmul_dw(struct device *, float *, const void *, const void *, int32_t, int32_t, int32_t) {
    return false;
}

#endif

#endif
