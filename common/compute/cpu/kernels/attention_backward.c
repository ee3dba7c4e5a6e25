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

struct gradient_items {
    v16 q[ATTENTION_ITEMS][ATTENTION_PARTS], dq[ATTENTION_ITEMS][ATTENTION_PARTS]; /* q scaled */
    v16 dout[ATTENTION_ITEMS][ATTENTION_PARTS];
    float p[ATTENTION_ITEMS][KV_PAGE_TOKENS], ds[ATTENTION_ITEMS][KV_PAGE_TOKENS];
    float lse[ATTENTION_ITEMS], delta[ATTENTION_ITEMS];
};

ATTENTION_INLINE void items_load(struct gradient_items *items, const struct attention_gradient *c,
                                 const struct attention_batch *batch, int parts) {
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = parts * LANES;
    for (int i = 0; i < batch->count; i++) {
        int64_t at = batch->row[i] * N + batch->head[i], q_at = batch->row[i] * (N + 2 * K) + batch->head[i];
        v16 product = v16_zero();
        for (int part = 0; part < parts; part++) {
            items->q[i][part] = v16_mul(v16_load(c->qkv + q_at * D + part * LANES), v16_set(c->shape.scale));
            items->dout[i][part] = v16_load(c->dout + at * D + part * LANES);
            items->dq[i][part] = v16_zero();
            product = v16_fma(items->dout[i][part], v16_load(c->out + at * D + part * LANES), product);
        }
        items->lse[i] = c->lse[at];
        items->delta[i] = v16_sum(product);
    }
}

/* dk and dv of the block's keys: each is loaded once for all items. */
ATTENTION_INLINE void keys_backward(const struct gradient_items *items, const struct attention_gradient *c,
                                    const struct attention_batch *batch, int64_t at, const int32_t *rows, int parts) {
    int64_t stride = c->shape.kv_heads * parts * LANES;
    for (int j = 0; j < batch->most_here; j++) {
        float *dk = c->dk + at + rows[j] * stride, *dv = c->dv + at + rows[j] * stride;
        v16 dk_sum[ATTENTION_PARTS], dv_sum[ATTENTION_PARTS];
        for (int part = 0; part < parts; part++) {
            dk_sum[part] = v16_load(dk + part * LANES);
            dv_sum[part] = v16_load(dv + part * LANES);
        }
        for (int i = 0; i < batch->count; i++) {
            if (j >= batch->here[i])
                continue;
            v16 p = v16_set(items->p[i][j]), ds = v16_set(items->ds[i][j]);
            for (int part = 0; part < parts; part++) {
                dv_sum[part] = v16_fma(p, items->dout[i][part], dv_sum[part]);
                dk_sum[part] = v16_fma(ds, items->q[i][part], dk_sum[part]);
            }
        }
        for (int part = 0; part < parts; part++) {
            v16_store(dk + part * LANES, dk_sum[part]);
            v16_store(dv + part * LANES, dv_sum[part]);
        }
    }
}

ATTENTION_INLINE void attend_backward(const struct attention_gradient *c, struct attention_batch *batch,
                                      int64_t kv_head, int parts) {
    int64_t N = c->shape.heads, K = c->shape.kv_heads, D = parts * LANES, at = kv_head * D;
    struct gradient_items items;
    items_load(&items, c, batch, parts);
    for (int64_t first = 0; first < batch->most_keys; first += KV_PAGE_TOKENS) {
        const int32_t *rows = batch->key_rows + first;
        attention_batch_block(batch, first);
        for (int i = 0; i < batch->count; i++) {
            float *p = items.p[i], *ds = items.ds[i];
            if (batch->here[i] == 0)
                continue;
            attention_dots(p, items.q[i], parts, c->k + at, K * D, rows, batch->here[i]);
            attention_dots(ds, items.dout[i], parts, c->v + at, K * D, rows, batch->here[i]);
            for (int j = 0; j < KV_PAGE_TOKENS; j += LANES) {
                v16 weight = v16_exp(v16_sub(v16_load(p + j), v16_set(items.lse[i])));
                v16_store(p + j, weight);
                v16_store(ds + j, v16_mul(weight, v16_sub(v16_load(ds + j), v16_set(items.delta[i]))));
            }
        }
        attention_weigh_all(batch, items.dq, items.ds, parts, c->k + at, K * D, rows);
        keys_backward(&items, c, batch, at, rows, parts);
    }
    for (int i = 0; i < batch->count; i++)
        for (int part = 0; part < parts; part++) {
            float *to = c->dqkv + (batch->row[i] * (N + 2 * K) + batch->head[i]) * D + part * LANES;
            v16_store(to, v16_mul(items.dq[i][part], v16_set(c->shape.scale)));
        }
}

static void attention_backward_tasks(void *context, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const struct attention_gradient *c = context;
    int64_t K = c->shape.kv_heads, D = c->shape.head_dim, group = c->shape.heads / K;
    for (int64_t task = begin; task < end; task++) {
        int64_t kv_head = task % K, row = c->view->tree_row[task / K], last = c->view->tree_row[task / K + 1];
        for (int64_t r = row; r < last; r++) {
            memset(c->dk + (r * K + kv_head) * D, 0, (size_t)D * sizeof(float));
            memset(c->dv + (r * K + kv_head) * D, 0, (size_t)D * sizeof(float));
        }
        for (int64_t unit = row * group; unit < last * group;) {
            struct attention_batch batch = attention_batch_next(c->view, c->shape, kv_head, unit, last * group);
            if (D == 64)
                attend_backward(c, &batch, kv_head, 4);
            else
                attend_backward(c, &batch, kv_head, 8);
            unit += batch.count;
        }
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
