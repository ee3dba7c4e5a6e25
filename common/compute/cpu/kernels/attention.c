/* Attention forward: softmax over a row's keys, online over blocks of KV_PAGE_TOKENS keys cut at multiples of the
 * absolute position (ops.h O4). */
#include "common/compute/cpu/kernels/attention.h"

#define TASK_ROWS 8

struct attention {
    float *out, *lse;
    const float *qkv, *k, *v;
    const struct attention_view *view;
    struct attention_shape shape;
};

/* Scores of one block become weights p; the running maximum and total move, and the sum so far is rescaled to them. */
ATTENTION_INLINE void soften(float *p, float *most, float *total, v16 *sum, int parts) {
    float block_most = v16_most(v16_max(v16_load(p), v16_load(p + LANES)));
    float most_now = *most > block_most ? *most : block_most, keep = exp_f32(*most - most_now);
    v16 shift = v16_set(most_now);
    v16 p0 = v16_exp(v16_sub(v16_load(p), shift)), p1 = v16_exp(v16_sub(v16_load(p + LANES), shift));
    v16_store(p, p0);
    v16_store(p + LANES, p1);
    *total = fmaf(*total, keep, v16_sum(v16_add(p0, p1)));
    *most = most_now;
    for (int i = 0; i < parts; i++)
        sum[i] = v16_mul(sum[i], v16_set(keep));
}

ATTENTION_INLINE void attend(const struct attention *c, struct attention_batch *batch, int64_t kv_head, int parts) {
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = parts * LANES;
    const float *k = c->k + kv_head * D, *v = c->v + kv_head * D;
    v16 q[ATTENTION_ITEMS][ATTENTION_PARTS], sum[ATTENTION_ITEMS][ATTENTION_PARTS];
    float p[ATTENTION_ITEMS][KV_PAGE_TOKENS], most[ATTENTION_ITEMS], total[ATTENTION_ITEMS];
    for (int i = 0; i < batch->count; i++) {
        most[i] = -INFINITY;
        total[i] = 0.0f;
        for (int part = 0; part < parts; part++) {
            const float *from = c->qkv + (batch->row[i] * (N + 2 * K) + batch->head[i]) * D + part * LANES;
            q[i][part] = v16_mul(v16_load(from), v16_set(c->shape.scale));
            sum[i][part] = v16_zero();
        }
    }
    for (int64_t first = 0; first < batch->most_keys; first += KV_PAGE_TOKENS) {
        const int32_t *rows = batch->key_rows + first;
        attention_batch_block(batch, first);
        for (int i = 0; i < batch->count; i++) {
            if (batch->here[i] > 0)
                attention_dots(p[i], q[i], parts, k, K * D, rows, batch->here[i]);
        }
        for (int i = 0; i < batch->count; i++) {
            if (batch->here[i] > 0)
                soften(p[i], &most[i], &total[i], sum[i], parts);
        }
        attention_weigh_all(batch, sum, p, parts, v, K * D, rows);
    }
    for (int i = 0; i < batch->count; i++) {
        int64_t at = batch->row[i] * N + batch->head[i];
        for (int part = 0; part < parts; part++)
            v16_store(c->out + at * D + part * LANES, v16_div(sum[i][part], v16_set(total[i])));
        if (c->lse != NULL)
            c->lse[at] = most[i] + log_f32(total[i]);
    }
}

/* A task is TASK_ROWS rows and one key/value head. */
static void attention_tasks(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct attention *c = context;
    int64_t K = c->shape.kv_heads, group = c->shape.heads / K;
    for (int64_t task = begin; task < end; task++) {
        int64_t kv_head = task % K, row = task / K * TASK_ROWS;
        int64_t unit = row * group, units = least_i64(row + TASK_ROWS, c->view->rows) * group;
        while (unit < units) {
            struct attention_batch batch = attention_batch_next(c->view, c->shape, kv_head, unit, units);
            if (c->shape.head_dim == 64)
                attend(c, &batch, kv_head, 4);
            else
                attend(c, &batch, kv_head, 8);
            unit += batch.count;
        }
    }
}

void PATH(attention_forward)(struct device *device, void *out, float *lse, const void *qkv, const void *k,
                             const void *v, const struct attention_view *view, struct attention_shape shape) {
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    struct attention context = {out, lse, qkv, k, v, view, shape};
    int64_t tasks = ((int64_t)view->rows + TASK_ROWS - 1) / TASK_ROWS * shape.kv_heads;
    team_for(cpu_team(device), tasks, 2, attention_tasks, &context);
}
