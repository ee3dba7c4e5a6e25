/* Attention forward: softmax over a row's keys, online over blocks of KV_PAGE_TOKENS keys cut at multiples of the
 * absolute position (ops.h O4). A task is a row and a head, so a row's bits are its own. */
#include "common/compute/cpu/kernels/attention.h"

struct attention {
    float *out, *lse;
    const float *qkv, *k, *v;
    const struct attention_view *view;
    struct attention_shape shape;
};

/* One head of one row; D = 16 * parts. */
static inline __attribute__((always_inline)) void attend(const struct attention *c, int64_t r, int64_t h, int parts) {
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = parts * LANES, kv_head = h / (N / K);
    v16 q[8], sum[8];
    for (int i = 0; i < parts; i++) {
        q[i] = v16_mul(v16_load(c->qkv + (r * (N + 2 * K) + h) * D + i * LANES), v16_set(c->shape.scale));
        sum[i] = v16_zero();
    }
    const int32_t *rows = c->view->key_rows + c->view->key_offset[c->view->row_sequence[r]];
    int64_t count = (int64_t)c->view->row_position[r] + 1;
    float most = -INFINITY, total = 0.0f;
    for (int64_t first = 0; first < count; first += KV_PAGE_TOKENS) {
        int keys = (int)least_i64(KV_PAGE_TOKENS, count - first);
        float p[KV_PAGE_TOKENS];
        float block_most = attention_scores(p, q, parts, c->k + kv_head * D, K * D, rows + first, keys);
        float most_now = most > block_most ? most : block_most, keep = exp_f32(most - most_now);
        v16 p0 = v16_exp(v16_sub(v16_load(p), v16_set(most_now)));
        v16 p1 = v16_exp(v16_sub(v16_load(p + LANES), v16_set(most_now)));
        v16_store(p, p0);
        v16_store(p + LANES, p1);
        total = fmaf(total, keep, v16_sum(v16_add(p0, p1)));
        most = most_now;
        for (int i = 0; i < parts; i++)
            sum[i] = v16_mul(sum[i], v16_set(keep));
        for (int j = 0; j < keys; j++) {
            const float *v = c->v + rows[first + j] * K * D + kv_head * D;
            v16 weight = v16_set(p[j]);
            for (int i = 0; i < parts; i++)
                sum[i] = v16_fma(weight, v16_load(v + i * LANES), sum[i]);
        }
    }
    for (int i = 0; i < parts; i++)
        v16_store(c->out + (r * N + h) * D + i * LANES, v16_div(sum[i], v16_set(total)));
    if (c->lse != NULL)
        c->lse[r * N + h] = most + log_f32(total);
}

static void attention_tasks(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct attention *c = context;
    int64_t N = c->shape.heads;
    for (int64_t task = begin; task < end; task++)
        if (c->shape.head_dim == 64)
            attend(c, task / N, task % N, 4);
        else
            attend(c, task / N, task % N, 8);
}

void PATH(attention_forward)(struct device *device, void *out, float *lse, const void *qkv, const void *k,
                             const void *v, const struct attention_view *view, struct attention_shape shape) {
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    struct attention context = {out, lse, qkv, k, v, view, shape};
    team_for(cpu_team(device), (int64_t)view->rows * shape.heads, 8, attention_tasks, &context);
}
