/* What attention's kernels share. A warp works on sixteen query vectors, rows of one sequence times the heads of one
 * key/value head, and on KV_PAGE_TOKENS keys at a time. Everything it multiplies comes from memory straight into the
 * registers of mma, sixteen bytes a lane: sums over the head's elements may run in any fixed order, and columns of a result
 * may be shared out in any way, so the orders are chosen to make each lane's part contiguous. No shared memory, no
 * barrier: a warp depends on nobody.
 *
 * With g = lane / 4 and q = lane % 4:
 *   dots      s[t][i] = product of vector (i < 2 ? g : g + 8) and row 8t + 2q + i % 2
 *   weigh     out[j][i] = column 16q + 8 (i % 2) + j of vector (i < 2 ? g : g + 8), in a part of 64 columns */
#ifndef CANDOR_COMPUTE_CUDA_ATTENTION_CUH
#define CANDOR_COMPUTE_CUDA_ATTENTION_CUH

#include "common/compute/cuda/kernel.cuh"

#define ATTENTION_KEYS KV_PAGE_TOKENS
#define ATTENTION_VECTORS 16
#define ATTENTION_WARPS 4
#define ATTENTION_PART 64 /* columns of a head that one accumulation makes */

/* Sixteen vectors of D elements as mma's a. */
template <int D> struct vectors { uint4 low[D / 32], high[D / 32]; /* of vectors g and g + 8 */ };

/* NULL: zeros. */
template <int D> DEVICE void vectors_load(vectors<D> &to, const uint16_t *low, const uint16_t *high) {
    int at = (int)threadIdx.x % 4 * 8;
    for (int c = 0; c < D / 32; c++) {
        uint4 zero = {0, 0, 0, 0};
        to.low[c] = low != NULL ? load16(low + c * 32 + at) : zero;
        to.high[c] = high != NULL ? load16(high + c * 32 + at) : zero;
    }
}

/* s = vectors times rows; row 8t + g of this lane begins at rows[t], NULL: zeros. */
template <int D> DEVICE void dots(float (&s)[4][4], const vectors<D> &a, const uint16_t *const (&rows)[4]) {
    int at = (int)threadIdx.x % 4 * 8;
    for (int t = 0; t < 4; t++) {
        s[t][0] = s[t][1] = s[t][2] = s[t][3] = 0.0f;
        for (int c = 0; c < D / 32; c++) {
            uint4 b = {0, 0, 0, 0};
            if (rows[t] != NULL)
                b = load16(rows[t] + c * 32 + at);
            uint32_t first[4] = {a.low[c].x, a.high[c].x, a.low[c].y, a.high[c].y}, first_b[2] = {b.x, b.y};
            uint32_t second[4] = {a.low[c].z, a.high[c].z, a.low[c].w, a.high[c].w}, second_b[2] = {b.z, b.w};
            mma_bf16(s[t], first, first_b);
            mma_bf16(s[t], second, second_b);
        }
    }
}

/* Word i of four, without putting the four into memory. */
DEVICE uint32_t word_of(const uint4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* out += weights times rows, in columns of one part; weights lie as dots leaves its results. Rows of this lane, already at
 * the part's first column: rows[4h + e] is row 16h + 2q + (0, 1, 8, 9)[e], NULL: zeros. */
DEVICE void weigh(float (&out)[8][4], const float (&weights)[4][4], const uint16_t *const (&rows)[8]) {
    int at = (int)threadIdx.x % WARP_LANES / 4 * 8;
    for (int h = 0; h < 2; h++) {
        uint32_t a[4] = {pack2(weights[2 * h][0], weights[2 * h][1]), pack2(weights[2 * h][2], weights[2 * h][3]),
                         pack2(weights[2 * h + 1][0], weights[2 * h + 1][1]),
                         pack2(weights[2 * h + 1][2], weights[2 * h + 1][3])};
        uint4 v[4];
        for (int e = 0; e < 4; e++) {
            uint4 zero = {0, 0, 0, 0};
            v[e] = rows[4 * h + e] != NULL ? load16(rows[4 * h + e] + at) : zero;
        }
        for (int j = 0; j < 8; j++) { /* column 8g + j of the part: half j % 2 of word j / 2 */
            uint32_t half = j % 2 ? 0x7632 : 0x5410;
            uint32_t b[2] = {__byte_perm(word_of(v[0], j / 2), word_of(v[1], j / 2), half),
                             __byte_perm(word_of(v[2], j / 2), word_of(v[3], j / 2), half)};
            mma_bf16(out[j], a, b);
        }
    }
}

/* Writes factor times this lane's columns of one part; NULL: not wanted. */
DEVICE void part_store(uint16_t *low, uint16_t *high, const float (&out)[8][4], float factor_low, float factor_high) {
    int at = (int)threadIdx.x % 4 * 16;
    for (int side = 0; side < 2; side++) {
        float8 a, b;
        for (int j = 0; j < 8; j++) {
            a.v[j] = out[j][side] * factor_low;
            b.v[j] = out[j][2 + side] * factor_high;
        }
        if (low != NULL)
            store16(low + at + 8 * side, pack8(a));
        if (high != NULL)
            store16(high + at + 8 * side, pack8(b));
    }
}

/* The greatest, or the sum, over the four lanes that share a vector. */
DEVICE float quad_most(float value) {
    for (int flip = 2; flip > 0; flip /= 2) {
        float other = __shfl_xor_sync(FULL_MASK, value, flip);
        value = other > value ? other : value;
    }
    return value;
}

DEVICE float quad_sum(float value) {
    value += __shfl_xor_sync(FULL_MASK, value, 2);
    return value + __shfl_xor_sync(FULL_MASK, value, 1);
}

/* Where key rows of one block of keys lie; index is this lane's own entry of key_rows, -1: there is none. */
struct key_block {
    int32_t index;
    DEVICE_MEMBER const uint16_t *row(const uint16_t *base, int64_t stride, int key) const {
        int32_t at = __shfl_sync(FULL_MASK, index, key);
        return at < 0 ? NULL : base + at * stride;
    }
};

/* Rows as dots and as weigh want them. */
DEVICE void rows_for_dots(const uint16_t *(&rows)[4], const struct key_block &keys, const uint16_t *base,
                          int64_t stride) {
    for (int t = 0; t < 4; t++)
        rows[t] = keys.row(base, stride, 8 * t + (int)threadIdx.x % WARP_LANES / 4);
}

DEVICE void rows_for_weigh(const uint16_t *(&rows)[8], const struct key_block &keys, const uint16_t *base,
                           int64_t stride) {
    for (int i = 0; i < 8; i++)
        rows[i] = keys.row(base, stride, i / 4 * 16 + (int)threadIdx.x % 4 * 2 + i % 2 + i % 4 / 2 * 8);
}

/* ---- rows that are not finite ----
 * A weight of 0 does not keep such a row out of a product, as 0 times infinity is NaN. So where some vectors of the warp attend
 * to a row and others do not, it is left out, and the weights of those that attend become NaN in its stead. ---- */

DEVICE bool nonfinite_bf16(uint32_t pair) {
    return (pair & 0x7f80u) == 0x7f80u || (pair & 0x7f800000u) == 0x7f800000u;
}

/* rows as weigh wants them: bit i says that some lane's columns of rows[i] hold such a number. */
DEVICE uint32_t nonfinite_rows(const uint16_t *const (&rows)[8]) {
    int at = (int)threadIdx.x % WARP_LANES / 4 * 8;
    uint32_t found = 0;
    for (int i = 0; i < 8; i++) {
        uint4 zero = {0, 0, 0, 0}, v = rows[i] != NULL ? load16(rows[i] + at) : zero;
        bool bad = nonfinite_bf16(v.x) || nonfinite_bf16(v.y) || nonfinite_bf16(v.z) || nonfinite_bf16(v.w);
        found |= (uint32_t)bad << i;
    }
    for (int flip = 4; flip < WARP_LANES; flip *= 2) /* the lanes with this lane's rows */
        found |= __shfl_xor_sync(FULL_MASK, found, flip);
    return found;
}

/* Do some vectors of a warp, of positions least to last, attend to a key of the block from `first` on and others not? */
DEVICE bool shared_unevenly(int32_t first, int32_t least, int32_t last) {
    return (first + ATTENTION_KEYS <= last ? first + ATTENTION_KEYS - 1 : last) > least;
}

/* attends(t, odd, side): does vector g, or g + 8 for side 1, attend to row 8t + 2q + odd of the block? */
template <typename ATTENDS>
DEVICE void leave_out_nonfinite(const uint16_t *(&rows)[8], float (&weights)[4][4], ATTENDS attends) {
    uint32_t found = nonfinite_rows(rows);
    UNROLL
    for (int i = 0; i < 8; i++) {
        int t = i / 4 * 2 + i % 4 / 2;
        if (!(found >> i & 1))
            continue;
        rows[i] = NULL;
        UNROLL
        for (int side = 0; side < 2; side++)
            if (attends(t, i % 2, side))
                weights[t][2 * side + i % 2] = f32_of_bits(0x7fc00000u);
    }
}

/* The query vectors of a warp: rows first .. first + count of one sequence, times the group's heads; vector m is row
 * m / group, head m % group. */
struct query_tile {
    int64_t first;
    int32_t count, group;
    DEVICE_MEMBER bool has(int m) const {
        return m < count * group;
    }
    DEVICE_MEMBER int64_t row(int m) const {
        return first + m / group;
    }
};

/* Rows from `first` on, up to `end` and as many as fit, that are of the same sequence as the first. */
DEVICE struct query_tile query_tile_at(const struct attention_view &view, int64_t first, int64_t end, int32_t group) {
    struct query_tile tile = {first, 1, group};
    while (first + tile.count < end && (tile.count + 1) * group <= ATTENTION_VECTORS &&
           view.row_sequence[first + tile.count] == view.row_sequence[first])
        tile.count++;
    return tile;
}

#endif
