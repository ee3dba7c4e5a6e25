/* Attention backward, from the forward's out and lse. Twin: cpu/kernels/attention_backward.c. With s = scale q.k and
 * p = e^(s - lse):
 *   dp = dout.v_j   delta = dout.out   ds = p (dp - delta)   dq = scale sum_j ds k_j
 *   dv_j = sum_r p dout_r              dk_j = scale sum_r ds q_r
 * Two kernels, so that each sum has one owner and one order: dq by query vectors, keys ascending; dk and dv by key rows,
 * query rows ascending and within a row the heads of the group. p and ds are rounded to bf16 before they are multiplied.
 *
 * A tree's rows are in depth-first order (ops.h), so the query rows that attend to a key are those from its own to its last;
 * span_kernel finds the last ones. */
#include "common/compute/cuda/attention.cuh"

struct attention_gradient {
    uint16_t *dqkv, *dk, *dv;
    const uint16_t *dout, *out, *qkv, *k, *v;
    const float *lse;
    float *delta;       /* [R,N] */
    int32_t *last_rows; /* [R] the last query row that attends to each key row */
    struct attention_view view;
    struct attention_shape shape;
    int32_t rows_per_warp;
};

/* A warp a row; those that end a run of rows of one sequence mark all keys of the sequence. */
KERNEL void span_kernel(struct attention_gradient c) {
    int32_t row = (int32_t)blockIdx.x, sequence = c.view.row_sequence[row];
    if (row + 1 < c.view.rows && c.view.row_sequence[row + 1] == sequence)
        return;
    const int32_t *key_rows = c.view.key_rows + c.view.key_offset[sequence];
    for (int32_t p = (int32_t)threadIdx.x; p <= c.view.row_position[row]; p += WARP_LANES)
        atomicMax(&c.last_rows[key_rows[p]], row);
}

/* ---- dq ---- */

/* This lane's part of dout.out for one vector, from the fragments of dout. */
template <int D> DEVICE float delta_part(const uint4 (&dout)[D / 32], const uint16_t *out) {
    int at = (int)threadIdx.x % 4 * 8;
    float sum = 0.0f;
    for (int c = 0; c < D / 32; c++) {
        uint4 zero = {0, 0, 0, 0};
        float8 a = unpack8(dout[c]), b = unpack8(out != NULL ? load16(out + c * 32 + at) : zero);
        for (int j = 0; j < 8; j++)
            sum = fmaf(a.v[j], b.v[j], sum);
    }
    return sum;
}

template <int D>
DEVICE void query_backward(const struct attention_gradient &c, const struct query_tile &tile, int32_t kv_head) {
    constexpr int PARTS = D / ATTENTION_PART;
    int32_t N = c.shape.heads, K = c.shape.kv_heads, lane = (int32_t)threadIdx.x % WARP_LANES;
    int32_t last = 0, least = INT32_MAX;
    int64_t stride = (int64_t)K * D, q_at[2] = {-1, -1}, out_at[2] = {-1, -1};
    int32_t positions[2] = {-1, -1};
    float lse[2] = {0.0f, 0.0f}, delta[2];
    for (int side = 0; side < 2; side++) {
        int m = lane / 4 + 8 * side;
        if (!tile.has(m))
            continue;
        int64_t row = tile.row(m), head = kv_head * tile.group + m % tile.group;
        q_at[side] = (row * (N + 2 * K) + head) * D;
        out_at[side] = row * N + head;
        positions[side] = c.view.row_position[row];
        lse[side] = c.lse[out_at[side]];
    }
    for (int32_t r = 0; r < tile.count; r++) {
        int32_t position = c.view.row_position[tile.first + r];
        last = position > last ? position : last;
        least = position < least ? position : least;
    }
    vectors<D> queries, douts;
    vectors_load<D>(queries, q_at[0] < 0 ? NULL : c.qkv + q_at[0], q_at[1] < 0 ? NULL : c.qkv + q_at[1]);
    vectors_load<D>(douts, out_at[0] < 0 ? NULL : c.dout + out_at[0] * D,
                    out_at[1] < 0 ? NULL : c.dout + out_at[1] * D);
    delta[0] = quad_sum(delta_part<D>(douts.low, out_at[0] < 0 ? NULL : c.out + out_at[0] * D));
    delta[1] = quad_sum(delta_part<D>(douts.high, out_at[1] < 0 ? NULL : c.out + out_at[1] * D));
    for (int side = 0; side < 2; side++)
        if (out_at[side] >= 0 && lane % 4 == 0)
            c.delta[out_at[side]] = delta[side];
    float sums[PARTS][8][4] = {};
    const int32_t *key_rows = c.view.key_rows + c.view.key_offset[c.view.row_sequence[tile.first]];
    for (int32_t first = 0; first <= last; first += ATTENTION_KEYS) {
        struct key_block keys = {first + lane <= last ? key_rows[first + lane] : -1};
        const uint16_t *rows[4], *k_rows[8];
        float s[4][4], dp[4][4];
        rows_for_dots(rows, keys, c.k + kv_head * D, stride);
        dots<D>(s, queries, rows);
        rows_for_dots(rows, keys, c.v + kv_head * D, stride);
        dots<D>(dp, douts, rows);
        for (int t = 0; t < 4; t++)
            for (int i = 0; i < 4; i++) {
                int32_t key = first + 8 * t + lane % 4 * 2 + i % 2;
                float p = exp_f32(s[t][i] * c.shape.scale - lse[i / 2]);
                s[t][i] = key <= positions[i / 2] ? p * (dp[t][i] - delta[i / 2]) : 0.0f;
            }
        UNROLL
        for (int p = 0; p < PARTS; p++) {
            rows_for_weigh(k_rows, keys, c.k + kv_head * D + p * ATTENTION_PART, stride);
            if (shared_unevenly(first, least, last))
                leave_out_nonfinite(k_rows, s, [&](int t, int odd, int side) {
                    return first + 8 * t + lane % 4 * 2 + odd <= positions[side];
                });
            weigh(sums[p], s, k_rows);
        }
    }
    UNROLL
    for (int p = 0; p < PARTS; p++)
        part_store(q_at[0] < 0 ? NULL : c.dqkv + q_at[0] + p * ATTENTION_PART,
                   q_at[1] < 0 ? NULL : c.dqkv + q_at[1] + p * ATTENTION_PART, sums[p], c.shape.scale, c.shape.scale);
}

template <int D>
KERNEL void __launch_bounds__(ATTENTION_WARPS *WARP_LANES) query_backward_kernel(struct attention_gradient c) {
    int64_t warp = (int64_t)blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP_LANES;
    int64_t first = warp * c.rows_per_warp,
            end = first + c.rows_per_warp < c.view.rows ? first + c.rows_per_warp : c.view.rows;
    while (first < end) {
        struct query_tile tile = query_tile_at(c.view, first, end, c.shape.heads / c.shape.kv_heads);
        query_backward<D>(c, tile, (int32_t)blockIdx.y);
        first += tile.count;
    }
}

/* ---- dk, dv: a warp sixteen key rows and one part of the head's columns ---- */

/* One query vector of 32, held by the lane of its number. */
struct query_vector {
    int32_t row; /* -1: none */
    int32_t head;
    float lse, delta;
};

DEVICE struct query_vector query_vector_at(const struct attention_gradient &c, int64_t index, int64_t first,
                                           int64_t last, int32_t kv_head, int32_t group) {
    struct query_vector vector = {-1, 0, 0.0f, 0.0f};
    int64_t row = first + index / group;
    if (row > last)
        return vector;
    vector.row = (int32_t)row;
    vector.head = kv_head * group + (int32_t)(index % group);
    vector.lse = c.lse[row * c.shape.heads + vector.head];
    vector.delta = c.delta[row * c.shape.heads + vector.head];
    return vector;
}

/* Vector i's elements in base, rows of `stride` elements with a head's D at head * D. */
DEVICE const uint16_t *vector_elements(const struct query_vector &own, int i, const uint16_t *base, int64_t stride,
                                       int D) {
    int32_t row = __shfl_sync(FULL_MASK, own.row, i), head = __shfl_sync(FULL_MASK, own.head, i);
    return row < 0 ? NULL : base + row * stride + head * D;
}

/* p and ds of sixteen keys and 32 query vectors, where dots left s and dp. */
DEVICE void key_probabilities(float (&s)[4][4], float (&dp)[4][4], const struct query_vector &own, int64_t first_key,
                              const int32_t (&last_rows)[2], float scale) {
    int32_t lane = (int32_t)threadIdx.x % WARP_LANES;
    for (int t = 0; t < 4; t++)
        for (int side = 0; side < 2; side++) {
            int column = 8 * t + lane % 4 * 2 + side;
            int32_t row = __shfl_sync(FULL_MASK, own.row, column);
            float lse = __shfl_sync(FULL_MASK, own.lse, column), delta = __shfl_sync(FULL_MASK, own.delta, column);
            for (int high = 0; high < 2; high++) {
                bool attends = row >= first_key + lane / 4 + 8 * high && row <= last_rows[high];
                float *at = &s[t][2 * high + side], *slope = &dp[t][2 * high + side];
                *at = attends ? exp_f32(*at * scale - lse) : 0.0f;
                *slope = attends ? *at * (*slope - delta) : 0.0f;
            }
        }
}

/* Does one of 32 query vectors attend to some of the tile's keys and not to others? The same in all
 * lanes. least_last: the least of the keys' last rows. */
DEVICE bool attended_unevenly(const struct query_vector &own, int64_t first_key, int32_t least_last) {
    bool uneven = own.row >= 0 && (own.row < first_key + ATTENTION_VECTORS - 1 || own.row > least_last);
    return __ballot_sync(FULL_MASK, uneven) != 0;
}

/* Leaves rows that are not finite out of a product with keys that the vectors do not attend to. */
DEVICE void leave_out_for_keys(const uint16_t *(&rows)[8], float (&weights)[4][4], const struct query_vector &own,
                               int64_t first_key, const int32_t (&last_rows)[2]) {
    int32_t lane = (int32_t)threadIdx.x % WARP_LANES, query[4][2];
    for (int t = 0; t < 4; t++)
        for (int odd = 0; odd < 2; odd++)
            query[t][odd] = __shfl_sync(FULL_MASK, own.row, 8 * t + lane % 4 * 2 + odd);
    leave_out_nonfinite(rows, weights, [&](int t, int odd, int high) {
        return query[t][odd] >= first_key + lane / 4 + 8 * high && query[t][odd] <= last_rows[high];
    });
}

template <int D> KERNEL void __launch_bounds__(WARP_LANES) key_backward_kernel(struct attention_gradient c) {
    int32_t N = c.shape.heads, K = c.shape.kv_heads, group = N / K, kv_head = (int32_t)blockIdx.y;
    int32_t lane = (int32_t)threadIdx.x % WARP_LANES, part = (int32_t)blockIdx.z * ATTENTION_PART;
    int64_t first = (int64_t)blockIdx.x * ATTENTION_VECTORS, stride = (int64_t)K * D, last = first;
    int64_t key[2] = {first + lane / 4, first + lane / 4 + 8};
    int32_t last_rows[2] = {-1, -1};
    const uint16_t *k[2] = {NULL, NULL}, *v[2] = {NULL, NULL};
    for (int side = 0; side < 2; side++)
        if (key[side] < c.view.rows) {
            last_rows[side] = c.last_rows[key[side]];
            k[side] = c.k + key[side] * stride + kv_head * D;
            v[side] = c.v + key[side] * stride + kv_head * D;
        }
    int32_t least_last = INT32_MAX;
    for (int i = 0; i < ATTENTION_VECTORS; i++) {
        int32_t end = first + i < c.view.rows ? c.last_rows[first + i] : -1;
        last = end > last ? end : last;
        least_last = end < least_last ? end : least_last;
    }
    vectors<D> keys, values;
    vectors_load<D>(keys, k[0], k[1]);
    vectors_load<D>(values, v[0], v[1]);
    float dk[8][4] = {}, dv[8][4] = {};
    int64_t qkv_stride = (int64_t)(N + 2 * K) * D, out_stride = (int64_t)N * D,
            vectors_count = (last - first + 1) * group;
    for (int64_t index = 0; index < vectors_count; index += WARP_LANES) {
        struct query_vector own = query_vector_at(c, index + lane, first, last, kv_head, group);
        const uint16_t *rows[4], *part_rows[8];
        float s[4][4], dp[4][4];
        for (int t = 0; t < 4; t++)
            rows[t] = vector_elements(own, 8 * t + lane / 4, c.qkv, qkv_stride, D);
        dots<D>(s, keys, rows);
        for (int t = 0; t < 4; t++)
            rows[t] = vector_elements(own, 8 * t + lane / 4, c.dout, out_stride, D);
        dots<D>(dp, values, rows);
        key_probabilities(s, dp, own, first, last_rows, c.shape.scale);
        bool uneven = attended_unevenly(own, first, least_last);
        for (int i = 0; i < 8; i++)
            part_rows[i] =
                vector_elements(own, i / 4 * 16 + lane % 4 * 2 + i % 2 + i % 4 / 2 * 8, c.dout + part, out_stride, D);
        if (uneven)
            leave_out_for_keys(part_rows, s, own, first, last_rows);
        weigh(dv, s, part_rows);
        for (int i = 0; i < 8; i++)
            part_rows[i] =
                vector_elements(own, i / 4 * 16 + lane % 4 * 2 + i % 2 + i % 4 / 2 * 8, c.qkv + part, qkv_stride, D);
        if (uneven)
            leave_out_for_keys(part_rows, dp, own, first, last_rows);
        weigh(dk, dp, part_rows);
    }
    uint16_t *to[2][2] = {{NULL, NULL}, {NULL, NULL}};
    for (int side = 0; side < 2; side++)
        if (key[side] < c.view.rows) {
            to[side][0] = c.dk + key[side] * stride + kv_head * D + part;
            to[side][1] = c.dv + key[side] * stride + kv_head * D + part;
        }
    part_store(to[0][0], to[1][0], dk, c.shape.scale, c.shape.scale);
    part_store(to[0][1], to[1][1], dv, 1.0f, 1.0f);
}

template <int D> static void attention_backward(struct device *device, const struct attention_gradient &context) {
    int32_t R = context.view.rows;
    unsigned K = (unsigned)context.shape.kv_heads;
    LAUNCH(device, span_kernel, dim3((unsigned)R), WARP_LANES, context);
    LAUNCH(device, query_backward_kernel<D>, dim3(blocks_for(R, (int64_t)context.rows_per_warp * ATTENTION_WARPS), K),
           ATTENTION_WARPS * WARP_LANES, context);
    LAUNCH(device, key_backward_kernel<D>, dim3(blocks_for(R, ATTENTION_VECTORS), K, D / ATTENTION_PART), WARP_LANES,
           context);
}

void cuda_attention_backward(struct device *device, void *dqkv, void *dk, void *dv, const void *dout, const void *out,
                             const float *lse, const void *qkv, const void *k, const void *v,
                             const struct attention_view *view, struct attention_shape shape) {
    int32_t group = shape.heads / shape.kv_heads;
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    ASSERT(shape.heads % shape.kv_heads == 0 && group <= ATTENTION_VECTORS);
    ASSERT(view->tree_row != NULL);
    size_t deltas = (size_t)view->rows * (size_t)shape.heads, rows = (size_t)view->rows;
    float *scratch = view->rows > 0 ? (float *)cuda_scratch(device, (deltas + rows) * sizeof *scratch) : NULL;
    if (scratch == NULL)
        return;
    struct attention_gradient context = {(uint16_t *)dqkv,
                                         (uint16_t *)dk,
                                         (uint16_t *)dv,
                                         (const uint16_t *)dout,
                                         (const uint16_t *)out,
                                         (const uint16_t *)qkv,
                                         (const uint16_t *)k,
                                         (const uint16_t *)v,
                                         lse,
                                         scratch,
                                         (int32_t *)(void *)(scratch + deltas),
                                         *view,
                                         shape,
                                         ATTENTION_VECTORS / group};
    cuda_zero(device, context.last_rows, rows * sizeof *context.last_rows);
    if (shape.head_dim == 64)
        attention_backward<64>(device, context);
    else
        attention_backward<128>(device, context);
}
