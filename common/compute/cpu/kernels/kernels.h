/* The operations of one instruction path; the signatures and their meaning stand in common/compute/ops.h. */
#ifndef CANDOR_COMPUTE_CPU_KERNELS_H
#define CANDOR_COMPUTE_CPU_KERNELS_H

#include "common/compute/cpu/cpu.h"
#include "common/compute/cpu/path.h"
#include "common/compute/cpu/vector.h"
#include "common/compute/ops.h"

static inline int64_t least_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A bf16 or fp32 parameter row, sixteen elements from index i on; n of them exist. */
static inline v16 weight_load(struct weight w, int64_t i, int64_t n) {
    if (w.type == DTYPE_F32)
        return v16_load_some((const float *)w.data + i, n);
    if (n >= LANES)
        return v16_load_bf16((const uint16_t *)w.data + i);
    uint16_t some[LANES] = {0};
    memcpy(some, (const uint16_t *)w.data + i, (size_t)n * sizeof some[0]);
    return v16_load_bf16(some);
}

/* rows.c */
void PATH(embed_forward)(struct device *device, void *x, struct weight w, const int32_t *ids, int32_t R, int32_t H);
void PATH(embed_backward)(struct device *device, float *dw, const void *dx, const int32_t *ids, int32_t R, int32_t H,
                          int32_t V);
void PATH(add)(struct device *device, void *y, const void *x, int64_t count);
void PATH(gather_rows)(struct device *device, void *y, const void *x, const int32_t *rows, int32_t count, int32_t H);
void PATH(scatter_add_rows)(struct device *device, void *x, const void *y, const int32_t *rows, int32_t count,
                            int32_t H);
void PATH(bias_backward)(struct device *device, float *db, const void *dy, int32_t R, int32_t n);

/* norm.c */
void PATH(rmsnorm_forward)(struct device *device, void *y, float *rstd, const void *x, struct weight w, int32_t R,
                           int32_t H, float eps);
void PATH(rmsnorm_backward)(struct device *device, void *dx, enum write_mode mode, float *dw, const void *dy,
                            const void *x, const float *rstd, struct weight w, int32_t R, int32_t H);

/* matmul.c */
void PATH(matmul)(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w,
                  struct weight bias, int32_t R, int32_t n, int32_t k);
void PATH(matmul_f32)(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n, int32_t k);
void PATH(matmul_dx)(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                     int32_t n, int32_t k);
void PATH(matmul_dw)(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k);

/* rope.c */
void PATH(rope_forward)(struct device *device, void *qkv, void *k_out, void *v_out, const float *table,
                        const int32_t *positions, const int32_t *slots, int32_t R, struct attention_shape shape);
void PATH(rope_backward)(struct device *device, void *dqkv, const void *dk, const void *dv, const float *table,
                         const int32_t *positions, int32_t R, struct attention_shape shape);

/* attention.c, attention_backward.c */
void PATH(attention_forward)(struct device *device, void *out, float *lse, const void *qkv, const void *k,
                             const void *v, const struct attention_view *view, struct attention_shape shape);
void PATH(attention_backward)(struct device *device, void *dqkv, void *dk, void *dv, const void *dout, const void *out,
                              const float *lse, const void *qkv, const void *k, const void *v,
                              const struct attention_view *view, struct attention_shape shape);

/* swiglu.c */
void PATH(swiglu_forward)(struct device *device, void *h, const void *gate_up, int32_t R, int32_t F);
void PATH(swiglu_backward)(struct device *device, void *d_gate_up, const void *dh, const void *gate_up, int32_t R,
                           int32_t F);

/* vocabulary.c, sample.c */
void PATH(logprob_forward)(struct device *device, float *lp, float *lse, float *entropy, const float *logits,
                           const int32_t *targets, int32_t R, int32_t V, int32_t valid, float inv_temperature);
void PATH(logprob_backward)(struct device *device, void *dlogits, const float *logits, const float *lse,
                            const float *dlp, const int32_t *targets, int32_t R, int32_t V, int32_t valid,
                            float inv_temperature);
void PATH(sample)(struct device *device, int32_t *ids, float *lp, const float *logits, const int32_t *rows,
                  const float *uniforms, int32_t draws, int32_t V, int32_t valid, float inv_temperature, int32_t top_k,
                  float top_p);

/* optimizer.c */
void PATH(decay)(struct device *device, void *w, enum dtype type, uint16_t *rem, int64_t count, float factor);
void PATH(adamw)(struct device *device, void *w, enum dtype type, uint16_t *rem, float *m, float *v, const float *g,
                 int64_t count, const struct adamw_step *step);
void PATH(adamw8)(struct device *device, void *w, enum dtype type, uint16_t *rem, const struct moments8 *moments,
                  const float *g, int64_t count, const struct adamw_step *step);
void PATH(sum_squares)(struct device *device, double *host_out, const float *g, int64_t count);
void PATH(digest)(struct device *device, struct digest *host_out, const void *w, enum dtype type, int64_t first,
                  int64_t count);

#endif
