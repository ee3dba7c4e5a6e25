/* The CUDA device's inside. Private to common/compute/cuda and to the emulated build of it; the way in from outside is
 * plugin.h. Kernels and the table of operations are the same in both builds; what stands under "the machine" is
 * runtime.cu on a device and tests/support/emulator/runtime.cc on the host. */
#ifndef CANDOR_COMPUTE_CUDA_CUDA_H
#define CANDOR_COMPUTE_CUDA_CUDA_H

#if defined(__cplusplus)
extern "C" { /* the headers below are C's */
#endif

#include "common/compute/ops.h"

/* Raised when a change of the kernels changes a bit of any result; part of the fingerprint. */
#define CUDA_KERNELS_VERSION 1

struct lt;      /* cuBLASLt's handle and choices, lt.cu */
struct staging; /* page-locked memory that uploads go through, runtime.cu */

struct cuda_state {
    int ordinal;
    void *stream;  /* every operation of the device runs in this one, in order */
    void *aside;   /* the stream of cuda_read_aside; nothing else runs in it */
    struct staging *staging;
    void *scratch; /* what an operation needs for its own time; grows */
    size_t scratch_bytes;
    enum status fault; /* the first; final. Operations do nothing after it */
    char fault_text[512];
    struct lt *lt; /* NULL: own matrix products alone */
};

extern const struct ops cuda_ops;

static inline struct cuda_state *cuda_state_of(const struct device *device) {
    return (struct cuda_state *)device->state;
}

/* ---- the machine ---- */

enum status cuda_allocate(struct device *device, size_t bytes, void **out_memory);
void cuda_release(struct device *device, void *memory);
void cuda_upload(struct device *device, void *to, const void *host_from, size_t bytes);
void cuda_download(struct device *device, void *host_to, const void *from, size_t bytes);
enum status cuda_read_aside(struct device *device, void *host_to, const void *from, size_t bytes);
void cuda_copy(struct device *device, void *to, const void *from, size_t bytes);
void cuda_zero(struct device *device, void *memory, size_t bytes);
enum status cuda_synchronize(struct device *device);
int64_t cuda_free_bytes(struct device *device);

/* Before anything is started: false after a fault. The calling thread's current device is this one then, whichever thread opened
 * it. */
bool cuda_ready(struct device *device);

/* Memory for the operation that is being started, 256-byte aligned, contents undefined; the next operation may use the
 * same. NULL after a fault, and running out of memory is one. */
void *cuda_scratch(struct device *device, size_t bytes);

/* Keeps the first fault. */
void cuda_set_fault(struct device *device, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* table.cu: STATUS_NO_MEMORY with what was asked for, what is free, and which settings would fit. */
enum status cuda_out_of_memory(const struct device *device, size_t bytes, size_t available, size_t total);

/* ---- operations: signatures and meaning in ops.h ---- */

/* rows.cu */
void cuda_embed_forward(struct device *device, void *x, struct weight w, const int32_t *ids, int32_t R, int32_t H);
void cuda_embed_backward(struct device *device, float *dw, const void *dx, const int32_t *ids, int32_t R, int32_t H,
                         int32_t V);
void cuda_add(struct device *device, void *y, const void *x, int64_t count);
void cuda_gather_rows(struct device *device, void *y, const void *x, const int32_t *rows, int32_t count, int32_t H);
void cuda_scatter_add_rows(struct device *device, void *x, const void *y, const int32_t *rows, int32_t count, int32_t H);
void cuda_bias_backward(struct device *device, float *db, const void *dy, int32_t R, int32_t n);

/* norm.cu */
void cuda_rmsnorm_forward(struct device *device, void *y, float *rstd, const void *x, struct weight w, int32_t R,
                          int32_t H, float eps);
void cuda_rmsnorm_backward(struct device *device, void *dx, enum write_mode mode, float *dw, const void *dy,
                           const void *x, const float *rstd, struct weight w, int32_t R, int32_t H);

/* matmul.cu */
enum status cuda_prepare_matmul(struct device *device, int32_t n, int32_t k);
void cuda_matmul(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w,
                 struct weight bias, int32_t R, int32_t n, int32_t k);
void cuda_matmul_f32(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n, int32_t k);
void cuda_matmul_dx(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                    int32_t n, int32_t k);
void cuda_matmul_dw(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k);

/* rope.cu */
void cuda_rope_forward(struct device *device, void *qkv, void *k_out, void *v_out, const float *table,
                       const int32_t *positions, const int32_t *slots, int32_t R, struct attention_shape shape);
void cuda_rope_backward(struct device *device, void *dqkv, const void *dk, const void *dv, const float *table,
                        const int32_t *positions, int32_t R, struct attention_shape shape);

/* attention.cu, attention_backward.cu */
void cuda_attention_forward(struct device *device, void *out, float *lse, const void *qkv, const void *k, const void *v,
                            const struct attention_view *view, struct attention_shape shape);
void cuda_attention_backward(struct device *device, void *dqkv, void *dk, void *dv, const void *dout, const void *out,
                             const float *lse, const void *qkv, const void *k, const void *v,
                             const struct attention_view *view, struct attention_shape shape);

/* swiglu.cu */
void cuda_swiglu_forward(struct device *device, void *h, const void *gate_up, int32_t R, int32_t F);
void cuda_swiglu_backward(struct device *device, void *d_gate_up, const void *dh, const void *gate_up, int32_t R,
                          int32_t F);

/* vocabulary.cu, sample.cu */
void cuda_logprob_forward(struct device *device, float *lp, float *lse, float *entropy, const float *logits,
                          const int32_t *targets, int32_t R, int32_t V, int32_t valid, float inv_temperature);
void cuda_logprob_backward(struct device *device, void *dlogits, const float *logits, const float *lse,
                           const float *dlp, const int32_t *targets, int32_t R, int32_t V, int32_t valid,
                           float inv_temperature);
void cuda_sample(struct device *device, int32_t *ids, float *lp, const float *logits, const int32_t *rows,
                 const float *uniforms, int32_t draws, int32_t V, int32_t valid, float inv_temperature, int32_t top_k,
                 float top_p);

/* optimizer.cu */
void cuda_decay(struct device *device, void *w, enum dtype type, uint16_t *rem, int64_t count, float factor);
void cuda_adamw(struct device *device, void *w, enum dtype type, uint16_t *rem, float *m, float *v, const float *g,
                int64_t count, const struct adamw_step *step);
void cuda_adamw8(struct device *device, void *w, enum dtype type, uint16_t *rem, const struct moments8 *moments,
                 const float *g, int64_t count, const struct adamw_step *step);
void cuda_sum_squares(struct device *device, double *host_out, const float *g, int64_t count);
void cuda_digest(struct device *device, struct digest *host_out, const void *w, enum dtype type, int64_t first,
                 int64_t count);

/* changes.cu */
void cuda_find_changes(struct device *device, uint32_t *host_counts, uint16_t *host_at, uint16_t *host_step,
                       const uint16_t *before, const uint16_t *after, int64_t count);
void cuda_apply_changes(struct device *device, uint16_t *w, struct digest *host_sum, const uint32_t *host_counts,
                        const uint16_t *host_at, const uint16_t *host_step, bool take_away, int64_t first,
                        int64_t count);

#if defined(__cplusplus)
}
#endif

#endif
