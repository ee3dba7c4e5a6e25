/* The table of operations that a model is made of. Every implementation is a twin of the CPU's (DESIGN section 6).
 *
 * Dimensions: R rows (tokens), H hidden, N query heads, K key/value heads, D head dim, F ffn, V vocabulary rows of the matrix.
 * Pointers are device memory unless "host" is said. act = void* to device->activation elements. All matrices are row-major
 * and dense. A struct weight is a parameter matrix, bf16 or fp32. Gradients of parameters are fp32 and accumulate.
 *
 * Rules that make the determinism contract (DESIGN section 5) true:
 *   O1 forward: the bits of row r depend on row r's inputs (and the keys it attends to) alone: not on R, on the place of the
 *      row, on other rows, on the thread count. Sums over a dimension run in one fixed order.
 *   O2 backward: sums over rows run in ascending row order, whatever the thread count. On the CPU a parameter's gradient goes on
 *      from the sum that is there, so rows in several calls give the bits of one call.
 *   O3 exp, log, rsqrt are Candor's own (math.h here), never libm's.
 *   O4 attention: keys in blocks of KV_PAGE_TOKENS cut at multiples of the absolute position, ascending.
 * Operations cannot fail; a device fault shows at the next synchronize. They are asynchronous where the device is. */
#ifndef CANDOR_COMPUTE_OPS_H
#define CANDOR_COMPUTE_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/compute/device.h"

/* Tokens of a page of the key/value cache, and of an attention block. Part of the determinism contract. */
#define KV_PAGE_TOKENS 32

/* Vocabulary ids of a block of the log-sum-exp and of the sampler's inverse CDF. Part of the determinism contract. */
#define VOCABULARY_BLOCK 512

/* Elements of a block of weights whose changes are listed together, so that a place in it has 16 bits; and of such blocks a call.
 * Part of a delta's format (common/weights/delta_block.h). */
#define CHANGE_BLOCK 65536
#define CHANGE_BLOCKS_MAX 256

struct weight {
    const void *data;
    enum dtype type;
};

enum write_mode { WRITE_OVER, WRITE_ADD };

/* Who attends to what. A sequence is the list of key rows by absolute position: key_rows[key_offset[s] + p] is the row, in the
 * key and value buffers, of position p of sequence s. Query row r attends to positions 0 .. row_position[r] of sequence
 * row_sequence[r]. The one mechanism serves prefill and decode (key rows come from page tables) and training (a group is a
 * tree: the list of an answer is the prompt's rows, then its own). All arrays are device memory. */
struct attention_view {
    int32_t rows;                /* R */
    int32_t sequences;           /* S */
    const int32_t *row_sequence; /* [R] */
    const int32_t *row_position; /* [R] */
    const int32_t *key_offset;   /* [S+1] */
    const int32_t *key_rows;     /* [key_offset[S]] */
    /* Training only: rows tree_row[t] .. tree_row[t+1]-1 share keys with nobody else, and key row == query row. A tree's
     * rows are in depth-first order: the rows that attend to a row are those from it to a last one, without a gap. */
    int32_t trees;
    const int32_t *tree_row; /* [trees+1], HOST memory; NULL in inference */
};

struct attention_shape {
    int32_t heads, kv_heads, head_dim; /* N, K, D; D is 64 or 128 */
    float scale;                       /* 1/sqrt(D) */
};

struct adamw_step {
    float lr, beta1, beta2, eps;
    float bias1, bias2; /* 1 - beta^t, computed in double */
    float grad_scale;   /* clip factor */
};

/* Elements of a block of eight-bit moments. bitsandbytes' size: one greatest value does for few neighbours, and the two of
 * them cost 1/32 of a byte an element (the paper's 2048 would save that, and let eight times as many suffer from an outlier). */
#define MOMENT_BLOCK 256

/* Moments of eight bits (moments.h), device memory; all zero: both moments are 0. */
struct moments8 {
    uint8_t *m, *v;         /* [count] codes */
    float *m_most, *v_most; /* [moment_blocks(count)] the greatest |m|, the greatest v */
};

static inline int64_t moment_blocks(int64_t count) {
    return (count + MOMENT_BLOCK - 1) / MOMENT_BLOCK;
}

struct ops {
    /* ---- memory; bytes of 0 is allowed ---- */
    enum status (*allocate)(struct device *device, size_t bytes, void **out_memory); /* zeroed, 64-byte aligned */
    void (*release)(struct device *device, void *memory);
    void (*upload)(struct device *device, void *to, const void *host_from,
                   size_t bytes); /* host_from may change after it */
    void (*download)(struct device *device, void *host_to, const void *from, size_t bytes); /* waits */
    /* For one thread beside the device's: memory that was synchronised after it was written and that no operation writes
     * meanwhile. Runs beside what the device is doing, not behind it; waits. A failure is the caller's, no fault of the device. */
    enum status (*read_aside)(struct device *device, void *host_to, const void *from, size_t bytes);
    void (*copy)(struct device *device, void *to, const void *from, size_t bytes);
    void (*zero)(struct device *device, void *memory, size_t bytes);
    enum status (*synchronize)(struct device *device); /* waits; STATUS_DEVICE after a fault, final */
    int64_t (*free_bytes)(struct device *device);      /* that could be allocated now, about */

    /* ---- embedding ---- */
    /* x [R,H] act over = w[ids[r]] */
    void (*embed_forward)(struct device *device, void *x, struct weight w, const int32_t *ids, int32_t R, int32_t H);
    /* dw [V,H] fp32 += dx rows, ascending r for each id */
    void (*embed_backward)(struct device *device, float *dw, const void *dx, const int32_t *ids, int32_t R, int32_t H,
                           int32_t V);

    /* ---- RMSNorm: y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps), all fp32 inside ---- */
    void (*rmsnorm_forward)(struct device *device, void *y, float *rstd /* [R] over */, const void *x, struct weight w,
                            int32_t R, int32_t H, float eps);
    /* dx [R,H] act, by mode; dw [H] fp32 += */
    void (*rmsnorm_backward)(struct device *device, void *dx, enum write_mode mode, float *dw, const void *dy,
                             const void *x, const float *rstd, struct weight w, int32_t R, int32_t H);

    /* ---- matrix products; w [n,k] as Hugging Face stores Linear weights ---- */
    /* Once for each shape before it is used: the device may choose its way. The choice is a function of device->chip and
     * device->arithmetic; device->products tells it. NULL: nothing to choose. */
    enum status (*prepare_matmul)(struct device *device, int32_t n, int32_t k);
    /* y [R,n] act, by mode: x [R,k] w^T (+ bias [n], data NULL: none) */
    void (*matmul)(struct device *device, void *y, enum write_mode mode, const void *x, struct weight w,
                   struct weight bias, int32_t R, int32_t n, int32_t k);
    /* The same with y fp32 on every device: vocabulary logits. */
    void (*matmul_f32)(struct device *device, float *y, const void *x, struct weight w, int32_t R, int32_t n,
                       int32_t k);
    /* dx [R,k] act, by mode: dy [R,n] w */
    void (*matmul_dx)(struct device *device, void *dx, enum write_mode mode, const void *dy, struct weight w, int32_t R,
                      int32_t n, int32_t k);
    /* dw [n,k] fp32 += dy^T x */
    void (*matmul_dw)(struct device *device, float *dw, const void *dy, const void *x, int32_t R, int32_t n, int32_t k);
    /* db [n] fp32 += column sums of dy [R,n] */
    void (*bias_backward)(struct device *device, float *db, const void *dy, int32_t R, int32_t n);

    /* ---- rotary positions and key/value store ----
     * qkv [R,(N+2K)D] act: q is rotated in place; rotated k and plain v go to rows slots[r] of k_out, v_out [.,K*D] act.
     * table [positions, D/2, 2] fp32: cos, sin; pairs are (i, i + D/2). */
    void (*rope_forward)(struct device *device, void *qkv, void *k_out, void *v_out, const float *table,
                         const int32_t *positions, const int32_t *slots, int32_t R, struct attention_shape shape);
    /* Inverse: dqkv's q part is rotated back in place, its k and v parts are written from dk, dv [R,K*D]. */
    void (*rope_backward)(struct device *device, void *dqkv, const void *dk, const void *dv, const float *table,
                          const int32_t *positions, int32_t R, struct attention_shape shape);

    /* ---- attention: softmax(q k^T scale) v, online over blocks; q is the q part of qkv [R,(N+2K)D] ----
     * out [R,N*D] act over; lse [R,N] fp32 over (max + log of sum), NULL: not wanted. */
    void (*attention_forward)(struct device *device, void *out, float *lse, const void *qkv, const void *k,
                              const void *v, const struct attention_view *view, struct attention_shape shape);
    /* dqkv's q part over; dk, dv [R,K*D] act over. Sums over query rows ascending within a tree. */
    void (*attention_backward)(struct device *device, void *dqkv, void *dk, void *dv, const void *dout, const void *out,
                               const float *lse, const void *qkv, const void *k, const void *v,
                               const struct attention_view *view, struct attention_shape shape);

    /* ---- SwiGLU: h [R,F] = silu(gate) * up; gate_up [R,2F]: gate, then up ---- */
    void (*swiglu_forward)(struct device *device, void *h, const void *gate_up, int32_t R, int32_t F);
    /* d_gate_up [R,2F] over; may be the same memory as gate_up */
    void (*swiglu_backward)(struct device *device, void *d_gate_up, const void *dh, const void *gate_up, int32_t R,
                            int32_t F);

    /* ---- rows ---- */
    void (*add)(struct device *device, void *y, const void *x, int64_t count); /* y += x, act */
    /* y [count,H] act over = x[rows[i]] */
    void (*gather_rows)(struct device *device, void *y, const void *x, const int32_t *rows, int32_t count, int32_t H);
    /* x[rows[i]] += y[i], ascending i for each row; rows is ascending (repeats allowed) */
    void (*scatter_add_rows)(struct device *device, void *x, const void *y, const int32_t *rows, int32_t count,
                             int32_t H);

    /* ---- vocabulary; logits [R,V] fp32; ids >= valid are masked out everywhere (probability 0, gradient 0) ----
     * z = logits * inv_temperature; lse = logsumexp(z); lp = z[target] - lse; entropy = lse - sum p z (NULL: not wanted). */
    void (*logprob_forward)(struct device *device, float *lp, float *lse, float *entropy, const float *logits,
                            const int32_t *targets, int32_t R, int32_t V, int32_t valid, float inv_temperature);
    /* dlogits [R,V] act over = dlp[r] * inv_temperature * (onehot(target) - p); may be the same memory as logits where
     * act is fp32. A row with dlp exactly 0 gives exactly 0 whatever the logits hold. */
    void (*logprob_backward)(struct device *device, void *dlogits, const float *logits, const float *lse,
                             const float *dlp, const int32_t *targets, int32_t R, int32_t V, int32_t valid,
                             float inv_temperature);
    /* Inverse CDF over fixed blocks with one uniform a draw (0 < u < 1). Draw i is made from row rows[i] of logits [.,V] (NULL:
     * row i; rows may repeat, equal ones side by side cost one pass over the row). top_k 0 and top_p 1: off (they serve
     * `generate` only; lp is of the full softmax then too). ids, lp, rows, uniforms [draws]: device. lp has the bits of
     * logprob_forward. inv_temperature 0: greedy, lowest id wins ties, lp at temperature 1. */
    void (*sample)(struct device *device, int32_t *ids, float *lp, const float *logits, const int32_t *rows,
                   const float *uniforms, int32_t draws, int32_t V, int32_t valid, float inv_temperature, int32_t top_k,
                   float top_p);

    /* ---- flat buffers ---- */
    /* Masters are exact fp32 held as bf16 w + 16-bit remainder (round half away, engine.md section 7); rem NULL and type F32: w
     * is the fp32 master itself.
     * AdamW's decay, before its step: w *= factor. */
    void (*decay)(struct device *device, void *w, enum dtype type, uint16_t *rem, int64_t count, float factor);
    /* AdamW's step without decay. m, v fp32. g is not changed. */
    void (*adamw)(struct device *device, void *w, enum dtype type, uint16_t *rem, float *m, float *v, const float *g,
                  int64_t count, const struct adamw_step *step);
    /* The same with moments of eight bits: decoded, stepped in fp32, coded again; w is moved by what was not yet coded. Blocks
     * are counted from where the pointers point: a part of a buffer (a shard) begins at a multiple of MOMENT_BLOCK. */
    void (*adamw8)(struct device *device, void *w, enum dtype type, uint16_t *rem, const struct moments8 *moments,
                   const float *g, int64_t count, const struct adamw_step *step);
    /* host *out = sum of squares, in double, over fixed blocks in order; waits. NaN and infinity propagate. */
    void (*sum_squares)(struct device *device, double *host_out, const float *g, int64_t count);
    /* host *out = sum over i of mix(first + i, bits of w[i]) modulo 2^128 (digest.h; DESIGN section 8); waits. */
    void (*digest)(struct device *device, struct digest *host_out, const void *w, enum dtype type, int64_t first,
                   int64_t count);

    /* ---- changes between versions of bf16 weights: blocks of CHANGE_BLOCK elements, the last one shorter, CHANGE_BLOCKS_MAX a
     * call. A change is a place within its block and a step, bits after - bits before modulo 2^16. NULL where the host reads
     * and writes the memory itself: common/weights then does the same in one go. ---- */
    /* host_counts [blocks] over = elements of each block that differ between before and after [count]; host_at, host_step, with
     * room for count, = these in ascending order, blocks one behind the other; waits. */
    void (*find_changes)(struct device *device, uint32_t *host_counts, uint16_t *host_at, uint16_t *host_step,
                         const uint16_t *before, const uint16_t *after, int64_t count);
    /* w [count], element `first` of its buffer on, a multiple of CHANGE_BLOCK: adds every step, or takes it away. host_sum over
     * = by how much this changes the buffer's digest; waits. Places ascend within a block and lie inside it: the caller
     * has checked. */
    void (*apply_changes)(struct device *device, uint16_t *w, struct digest *host_sum, const uint32_t *host_counts,
                          const uint16_t *host_at, const uint16_t *host_step, bool take_away, int64_t first,
                          int64_t count);
};

#endif
