/* Attention backward, from the forward's out and lse. With p = e^(s - lse), s = scale q.k:
 *   dv_j = sum_r p dout_r        dp = dout.v_j        ds = p (dp - dout.out)        dq = scale sum_j ds k_j
 *   dk_j = scale sum_r ds q_r
 * A task is a tree and a key/value head: its rows' keys belong to nobody else, so it owns dk and dv of these rows. Sums
 * over query rows run in ascending order, and within a row over the heads of the group (ops.h O2). */
#include "common/compute/cpu/kernels/attention.h"

struct attention_gradient {
    float *dqkv, *dk, *dv;
    const float *dout, *out, *lse, *qkv, *k, *v;
    const struct attention_view *view;
    struct attention_shape shape;
};

/* One query row and head against one block of keys; dq [parts] grows. */
static inline __attribute__((always_inline)) void block_backward(const struct attention_gradient *c, v16 *dq,
                                                                 const v16 *q, const v16 *dout, float lse, float delta,
                                                                 int64_t kv_head, const int32_t *rows, int keys,
                                                                 int parts) {
    int64_t D = parts * LANES, stride = c->shape.kv_heads * D, at = kv_head * D;
    float p[KV_PAGE_TOKENS], ds[KV_PAGE_TOKENS];
    attention_dots(p, q, parts, c->k + at, stride, rows, keys);
    attention_dots(ds, dout, parts, c->v + at, stride, rows, keys);
    for (int j = 0; j < KV_PAGE_TOKENS; j += LANES) {
        v16 probability = v16_exp(v16_sub(v16_load(p + j), v16_set(lse)));
        v16_store(p + j, probability);
        v16_store(ds + j, v16_mul(probability, v16_sub(v16_load(ds + j), v16_set(delta))));
    }
    for (int j = 0; j < keys; j++) {
        int64_t place = rows[j] * stride + at;
        v16 weight = v16_set(p[j]), slope = v16_set(ds[j]);
        for (int i = 0; i < parts; i++) {
            float *dk = c->dk + place + i * LANES, *dv = c->dv + place + i * LANES;
            v16_store(dv, v16_fma(weight, dout[i], v16_load(dv)));
            v16_store(dk, v16_fma(slope, q[i], v16_load(dk)));
            dq[i] = v16_fma(slope, v16_load(c->k + place + i * LANES), dq[i]);
        }
    }
}

static inline __attribute__((always_inline)) void row_backward(const struct attention_gradient *c, int64_t r, int64_t h,
                                                               int parts) {
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = parts * LANES;
    v16 q[8], dq[8], dout[8], scale = v16_set(c->shape.scale);
    v16 product = v16_zero();
    for (int i = 0; i < parts; i++) {
        q[i] = v16_mul(v16_load(c->qkv + (r * (N + 2 * K) + h) * D + i * LANES), scale);
        dout[i] = v16_load(c->dout + (r * N + h) * D + i * LANES);
        product = v16_fma(dout[i], v16_load(c->out + (r * N + h) * D + i * LANES), product);
        dq[i] = v16_zero();
    }
    float delta = v16_sum(product);
    const int32_t *rows = c->view->key_rows + c->view->key_offset[c->view->row_sequence[r]];
    int64_t count = (int64_t)c->view->row_position[r] + 1;
    for (int64_t first = 0; first < count; first += KV_PAGE_TOKENS)
        block_backward(c, dq, q, dout, c->lse[r * N + h], delta, h / (N / K), rows + first,
                       (int)least_i64(KV_PAGE_TOKENS, count - first), parts);
    for (int i = 0; i < parts; i++)
        v16_store(c->dqkv + (r * (N + 2 * K) + h) * D + i * LANES, v16_mul(dq[i], scale));
}

static void attention_backward_tasks(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct attention_gradient *c = context;
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = c->shape.head_dim;
    for (int64_t task = begin; task < end; task++) {
        int64_t kv_head = task % K, first = c->view->tree_row[task / K], last = c->view->tree_row[task / K + 1];
        for (int64_t r = first; r < last; r++) {
            memset(c->dk + (r * K + kv_head) * D, 0, (size_t)D * sizeof(float));
            memset(c->dv + (r * K + kv_head) * D, 0, (size_t)D * sizeof(float));
        }
        for (int64_t r = first; r < last; r++)
            for (int64_t h = kv_head * (N / K); h < (kv_head + 1) * (N / K); h++)
                if (D == 64)
                    row_backward(c, r, h, 4);
                else
                    row_backward(c, r, h, 8);
    }
}

void PATH(attention_backward)(struct device *device, void *dqkv, void *dk, void *dv, const void *dout, const void *out,
                              const float *lse, const void *qkv, const void *k, const void *v,
                              const struct attention_view *view, struct attention_shape shape) {
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    ASSERT(view->tree_row != NULL);
    struct attention_gradient context = {dqkv, dk, dv, dout, out, lse, qkv, k, v, view, shape};
    team_for(cpu_team(device), (int64_t)view->trees * shape.kv_heads, 1, attention_backward_tasks, &context);
}
