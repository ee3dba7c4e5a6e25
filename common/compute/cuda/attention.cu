/* Attention forward: softmax over a row's keys, online over blocks of KV_PAGE_TOKENS keys cut at multiples of the absolute
 * position (ops.h O4). Twin: cpu/kernels/attention.c; here probabilities are rounded to bf16 before they weigh the values.
 *
 * A warp takes up to sixteen query vectors (attention.cuh). A vector's bits do not depend on the others of its warp: a key
 * that it does not attend to weighs exactly 0, a block without any changes nothing (e^0 = 1, plus 0). So decode, which
 * gives a warp one row, and training, which fills it, agree to the bit.
 * Flops: 4 D a vector and key. Bytes: 4 D a key and warp, from the cache for all but one of a sequence's warps. */
#include "common/compute/cuda/attention.cuh"

struct attention {
    uint16_t *out;
    float *lse;
    const uint16_t *qkv, *k, *v;
    struct attention_view view;
    struct attention_shape shape;
    int32_t rows_per_warp;
};

/* The running softmax of vectors g and g + 8. */
struct softmax {
    float most[2], total[2];
};

/* Scores to probabilities; what was summed before is worth keep[] of itself now. */
DEVICE void softmax_step(struct softmax &state, float (&s)[4][4], float (&keep)[2], float scale,
                         const int32_t (&allowed)[2]) {
    for (int side = 0; side < 2; side++) {
        float most = -INFINITY;
        for (int t = 0; t < 4; t++)
            for (int i = 0; i < 2; i++) {
                int32_t key = 8 * t + (int32_t)threadIdx.x % 4 * 2 + i;
                float *at = &s[t][2 * side + i];
                *at = key < allowed[side] ? *at * scale : -INFINITY;
                most = *at > most ? *at : most;
            }
        most = quad_most(most);
        most = most > state.most[side] ? most : state.most[side];
        keep[side] = most > -INFINITY ? exp_f32(state.most[side] - most) : 1.0f;
        float sum = 0.0f;
        for (int t = 0; t < 4; t++)
            for (int i = 0; i < 2; i++) {
                float *at = &s[t][2 * side + i];
                *at = most > -INFINITY ? exp_f32(*at - most) : 0.0f;
                sum += *at;
            }
        state.total[side] = fmaf(state.total[side], keep[side], quad_sum(sum));
        state.most[side] = most;
    }
}

template <int D> DEVICE void attend(const struct attention &c, const struct query_tile &tile, int32_t kv_head) {
    constexpr int PARTS = D / ATTENTION_PART;
    int32_t N = c.shape.heads, K = c.shape.kv_heads, lane = (int32_t)threadIdx.x % WARP_LANES;
    int64_t stride = (int64_t)K * D, at[2];
    const uint16_t *q[2] = {NULL, NULL};
    int32_t positions[2] = {-1, -1}, last = 0, least = INT32_MAX;
    for (int side = 0; side < 2; side++) {
        int m = lane / 4 + 8 * side;
        if (!tile.has(m))
            continue;
        int64_t row = tile.row(m), head = kv_head * tile.group + m % tile.group;
        q[side] = c.qkv + (row * (N + 2 * K) + head) * D;
        at[side] = row * N + head;
        positions[side] = c.view.row_position[row];
    }
    for (int32_t r = 0; r < tile.count; r++) {
        int32_t position = c.view.row_position[tile.first + r];
        last = position > last ? position : last;
        least = position < least ? position : least;
    }
    vectors<D> queries;
    vectors_load<D>(queries, q[0], q[1]);
    struct softmax state = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    float sums[PARTS][8][4] = {};
    const int32_t *key_rows = c.view.key_rows + c.view.key_offset[c.view.row_sequence[tile.first]];
    for (int32_t first = 0; first <= last; first += ATTENTION_KEYS) {
        struct key_block keys = {first + lane <= last ? key_rows[first + lane] : -1};
        const uint16_t *k_rows[4], *v_rows[8];
        float s[4][4], keep[2];
        int32_t allowed[2] = {positions[0] - first + 1, positions[1] - first + 1};
        rows_for_dots(k_rows, keys, c.k + kv_head * D, stride);
        rows_for_weigh(v_rows, keys, c.v + kv_head * D, stride);
        dots<D>(s, queries, k_rows);
        softmax_step(state, s, keep, c.shape.scale, allowed);
        UNROLL
        for (int p = 0; p < PARTS; p++) {
            for (int j = 0; j < 8; j++)
                for (int i = 0; i < 4; i++)
                    sums[p][j][i] *= keep[i / 2];
            const uint16_t *part_rows[8];
            for (int i = 0; i < 8; i++)
                part_rows[i] = v_rows[i] == NULL ? NULL : v_rows[i] + p * ATTENTION_PART;
            if (shared_unevenly(first, least, last))
                leave_out_nonfinite(
                    part_rows, s, [&](int t, int odd, int side) { return 8 * t + lane % 4 * 2 + odd < allowed[side]; });
            weigh(sums[p], s, part_rows);
        }
    }
    UNROLL
    for (int p = 0; p < PARTS; p++)
        part_store(q[0] ? c.out + at[0] * D + p * ATTENTION_PART : NULL,
                   q[1] ? c.out + at[1] * D + p * ATTENTION_PART : NULL, sums[p], 1.0f / state.total[0],
                   1.0f / state.total[1]);
    for (int side = 0; side < 2; side++)
        if (q[side] != NULL && c.lse != NULL && lane % 4 == 0)
            c.lse[at[side]] = state.most[side] + log_f32(state.total[side]);
}

template <int D> KERNEL void __launch_bounds__(ATTENTION_WARPS *WARP_LANES) attention_kernel(struct attention c) {
    int64_t warp = (int64_t)blockIdx.x * ATTENTION_WARPS + threadIdx.x / WARP_LANES;
    int64_t first = warp * c.rows_per_warp,
            end = first + c.rows_per_warp < c.view.rows ? first + c.rows_per_warp : c.view.rows;
    while (first < end) {
        struct query_tile tile = query_tile_at(c.view, first, end, c.shape.heads / c.shape.kv_heads);
        attend<D>(c, tile, (int32_t)blockIdx.y);
        first += tile.count;
    }
}

void cuda_attention_forward(struct device *device, void *out, float *lse, const void *qkv, const void *k, const void *v,
                            const struct attention_view *view, struct attention_shape shape) {
    int32_t group = shape.heads / shape.kv_heads;
    ASSERT(shape.head_dim == 64 || shape.head_dim == 128);
    ASSERT(shape.heads % shape.kv_heads == 0 && group <= ATTENTION_VECTORS);
    if (view->rows <= 0)
        return;
    /* Rows that are all of different sequences would run one after the other in a warp. */
    int32_t rows_per_warp = view->sequences >= view->rows ? 1 : ATTENTION_VECTORS / group;
    struct attention context = {(uint16_t *)out, lse,   (const uint16_t *)qkv, (const uint16_t *)k, (const uint16_t *)v,
                                *view,           shape, rows_per_warp};
    dim3 grid(blocks_for(view->rows, (int64_t)rows_per_warp * ATTENTION_WARPS), (unsigned)shape.kv_heads);
    if (shape.head_dim == 64)
        LAUNCH(device, attention_kernel<64>, grid, ATTENTION_WARPS * WARP_LANES, context);
    else
        LAUNCH(device, attention_kernel<128>, grid, ATTENTION_WARPS * WARP_LANES, context);
}
