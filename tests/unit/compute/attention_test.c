/* Attention against an fp64 reference; batches, paths and threads; gradients against the reference's own. */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <string.h>

#define EACH_DEVICE(d) for (int d = 0; d < device_count; d++)

/* Trees: prompts with answers hanging on them, packed row after row; keys lie in the rows' order. */
struct packed {
    struct attention_view view;
    struct attention_shape shape;
    int32_t *row_sequence, *row_position, *key_offset, *key_rows, *tree_row;
};

struct tree {
    int32_t prompt, answers, answer;
};

static struct packed pack(const struct tree *trees, int32_t tree_count, struct attention_shape shape) {
    struct packed p = {.shape = shape};
    int32_t rows = 0, sequences = 0, keys = 0;
    for (int32_t t = 0; t < tree_count; t++) {
        rows += trees[t].prompt + trees[t].answers * trees[t].answer;
        sequences += 1 + trees[t].answers;
        keys += trees[t].prompt + trees[t].answers * (trees[t].prompt + trees[t].answer);
    }
    p.row_sequence = bytes_of((size_t)rows * 4);
    p.row_position = bytes_of((size_t)rows * 4);
    p.key_offset = bytes_of((size_t)(sequences + 1) * 4);
    p.key_rows = bytes_of((size_t)keys * 4);
    p.tree_row = bytes_of((size_t)(tree_count + 1) * 4);
    int32_t row = 0, sequence = 0, key = 0;
    for (int32_t t = 0; t < tree_count; t++) {
        int32_t prompt_row = row;
        for (int32_t a = -1; a < trees[t].answers; a++) {
            int32_t own = a < 0 ? trees[t].prompt : trees[t].answer, before = a < 0 ? 0 : trees[t].prompt;
            for (int32_t i = 0; i < before; i++)
                p.key_rows[key++] = prompt_row + i;
            for (int32_t i = 0; i < own; i++) {
                p.key_rows[key++] = row;
                p.row_sequence[row] = sequence;
                p.row_position[row++] = before + i;
            }
            p.key_offset[++sequence] = key;
        }
        p.tree_row[t + 1] = row;
    }
    p.view = (struct attention_view){rows,         sequences,  p.row_sequence, p.row_position,
                                     p.key_offset, p.key_rows, tree_count,     p.tree_row};
    return p;
}

static int32_t key_row(const struct packed *p, int64_t r, int64_t j) {
    return p->key_rows[p->key_offset[p->row_sequence[r]] + j];
}

/* out, lse, and with dout the gradients, in double */
struct reference {
    double *out, *lse, *dqkv, *dk, *dv;
};

static double dot(const float *a, const float *b, int64_t D) {
    double sum = 0;
    for (int64_t i = 0; i < D; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static struct reference reference(const struct packed *p, const float *qkv, const float *k, const float *v,
                                  const float *dout) {
    int64_t R = p->view.rows, N = p->shape.heads, K = p->shape.kv_heads, D = p->shape.head_dim, width = (N + 2 * K) * D;
    struct reference f = {bytes_of((size_t)(R * N * D) * 8), bytes_of((size_t)(R * N) * 8),
                          bytes_of((size_t)(R * width) * 8), bytes_of((size_t)(R * K * D) * 8),
                          bytes_of((size_t)(R * K * D) * 8)};
    double *w = bytes_of((size_t)R * 8);
    for (int64_t r = 0; r < R; r++)
        for (int64_t h = 0; h < N; h++) {
            const float *q = qkv + r * width + h * D, *d = dout + (r * N + h) * D;
            double *out = f.out + (r * N + h) * D, most = -INFINITY, total = 0, delta = 0;
            int64_t g = h / (N / K), keys = p->row_position[r] + 1;
            for (int64_t j = 0; j < keys; j++) {
                w[j] = dot(q, k + (key_row(p, r, j) * K + g) * D, D) * (double)p->shape.scale;
                most = fmax(most, w[j]);
            }
            for (int64_t j = 0; j < keys; j++)
                total += exp(w[j] - most);
            f.lse[r * N + h] = most + log(total);
            for (int64_t j = 0; j < keys; j++) {
                w[j] = exp(w[j] - most) / total;
                for (int64_t i = 0; i < D; i++)
                    out[i] += w[j] * (double)v[(key_row(p, r, j) * K + g) * D + i];
            }
            for (int64_t i = 0; i < D; i++)
                delta += out[i] * (double)d[i];
            for (int64_t j = 0; j < keys; j++) {
                int64_t at = (key_row(p, r, j) * K + g) * D;
                double ds = w[j] * (dot(d, v + at, D) - delta) * (double)p->shape.scale;
                for (int64_t i = 0; i < D; i++) {
                    f.dqkv[r * width + h * D + i] += ds * (double)k[at + i];
                    f.dk[at + i] += ds * (double)q[i];
                    f.dv[at + i] += w[j] * (double)d[i];
                }
            }
        }
    return f;
}

static const struct attention_shape shapes[] = {
    {2, 1, 64, 0.125f}, {7, 1, 64, 0.125f}, {4, 4, 64, 0.125f}, {5, 1, 128, 0.088388346f}, {6, 2, 128, 0.088388346f}};
static const struct tree forest[] = {{33, 3, 7}, {1, 2, 40}, {31, 1, 1}, {64, 4, 5}};

/* 16 to 130 fp32 sums and two exponentials a row; inputs in [-1, 1). */
static void forward_and_backward_are_near_the_reference_and_alike_on_every_path(void **state) {
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        struct packed p = pack(forest, 4, shapes[s]);
        int64_t R = p.view.rows, N = shapes[s].heads, K = shapes[s].kv_heads, D = shapes[s].head_dim;
        int64_t width = (N + 2 * K) * D;
        float *qkv = random_floats(R * width), *k = random_floats(R * K * D), *v = random_floats(R * K * D);
        float *dout = random_floats(R * N * D), *first[5] = {NULL};
        for (int64_t i = 0; i < R * width; i++)
            qkv[i] *= 3.0f; /* scores with a spread */
        struct reference want = reference(&p, qkv, k, v, dout);
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            float *out = floats(R * N * D), *lse = floats(R * N), *dqkv = floats(R * width);
            float *dk = random_floats(R * K * D), *dv = random_floats(R * K * D), *without = floats(R * N * D);
            ops->attention_forward(devices[d], out, lse, qkv, k, v, &p.view, p.shape);
            ops->attention_forward(devices[d], without, NULL, qkv, k, v, &p.view, p.shape);
            ops->attention_backward(devices[d], dqkv, dk, dv, dout, out, lse, qkv, k, v, &p.view, p.shape);
            assert_same_bits(without, out, R * N * D, "out without lse");
            assert_close(out, want.out, R * N * D, 2e-6, 1, "out");
            assert_close(lse, want.lse, R * N, 1e-6, 1, "lse");
            assert_close(dqkv, want.dqkv, R * width, 4e-6, 1, "dq");
            assert_close(dk, want.dk, R * K * D, 4e-6, 4, "dk");
            assert_close(dv, want.dv, R * K * D, 4e-6, 4, "dv");
            float *now[5] = {out, lse, dqkv, dk, dv};
            int64_t counts[5] = {R * N * D, R * N, R * width, R * K * D, R * K * D};
            for (int i = 0; i < 5; i++) {
                first[i] = first[i] == NULL ? now[i] : first[i];
                assert_same_bits(now[i], first[i], counts[i], devices[d]->name);
            }
        }
        fixture_free_all(NULL);
    }
}

/* One sequence of T keys behind a shuffled page table; its last row alone, then all rows at once, then as training
 * packs it. */
static void a_row_has_the_same_bits_in_decode_prefill_and_training(void **state) {
    (void)state;
    for (int32_t T = KV_PAGE_TOKENS - 1; T <= KV_PAGE_TOKENS + 1; T++)
        for (size_t s = 0; s < 2; s++) {
            struct attention_shape shape = shapes[s == 0 ? 1 : 4];
            struct packed p = pack(&(struct tree){T, 0, 0}, 1, shape);
            int64_t N = shape.heads, K = shape.kv_heads, D = shape.head_dim, width = (N + 2 * K) * D;
            float *qkv = random_floats(T * width), *k = random_floats(T * K * D), *v = random_floats(T * K * D);
            float *paged_k = random_floats(4 * T * K * D), *paged_v = random_floats(4 * T * K * D),
                  *all = floats(T * N * D);
            int32_t *slots = bytes_of((size_t)T * 4), zero = 0, offsets[2] = {0, T};
            for (int32_t t = 0; t < T; t++) {
                slots[t] = 3 * T - 2 * t;
                memcpy(paged_k + slots[t] * K * D, k + t * K * D, (size_t)(K * D) * 4);
                memcpy(paged_v + slots[t] * K * D, v + t * K * D, (size_t)(K * D) * 4);
            }
            devices[0]->ops->attention_forward(devices[0], all, NULL, qkv, k, v, &p.view, shape);
            EACH_DEVICE(d)
            for (int32_t r = 0; r < T; r++) {
                float *one = floats(N * D);
                struct attention_view view = {.rows = 1,
                                              .sequences = 1,
                                              .row_sequence = &zero,
                                              .row_position = &r,
                                              .key_offset = offsets,
                                              .key_rows = slots};
                devices[d]->ops->attention_forward(devices[d], one, NULL, qkv + r * width, paged_k, paged_v, &view,
                                                   shape);
                assert_same_bits(one, all + r * N * D, N * D, "one row");
            }
            fixture_free_all(NULL);
        }
}

/* Keys that a row may not see hold NaN. */
static void keys_behind_the_position_are_never_read(void **state) {
    (void)state;
    struct attention_shape shape = shapes[0];
    int32_t T = 40, zero = 0, offsets[2] = {0, T}, rows[40];
    float *qkv = random_floats(4 * 64), *k = random_floats(T * 64), *v = random_floats(T * 64), *want = floats(128),
          *got = floats(128);
    for (int32_t t = 0; t < T; t++)
        rows[t] = t;
    for (int32_t position = 0; position < T; position++)
        EACH_DEVICE(d) {
            float *k2 = copy_floats(k, T * 64), *v2 = copy_floats(v, T * 64);
            for (int32_t i = (position + 1) * 64; i < T * 64; i++)
                k2[i] = v2[i] = NAN;
            struct attention_view view = {.rows = 1,
                                          .sequences = 1,
                                          .row_sequence = &zero,
                                          .row_position = &position,
                                          .key_offset = offsets,
                                          .key_rows = rows};
            devices[d]->ops->attention_forward(devices[d], want, NULL, qkv, k, v, &view, shape);
            devices[d]->ops->attention_forward(devices[d], got, NULL, qkv, k2, v2, &view, shape);
            assert_same_bits(got, want, 128, "out");
        }
}

static void far_scores_neither_overflow_nor_vanish(void **state) {
    (void)state;
    struct attention_shape shape = shapes[0];
    struct packed p = pack(&(struct tree){70, 0, 0}, 1, shape);
    int64_t R = 70, width = 4 * 64;
    float *qkv = random_floats(R * width), *k = random_floats(R * 64), *v = random_floats(R * 64),
          *out = floats(R * 128);
    float *dout = random_floats(R * 128);
    for (int64_t i = 0; i < R * width; i++)
        qkv[i] *= 1000.0f;
    struct reference want = reference(&p, qkv, k, v, dout);
    EACH_DEVICE(d) {
        devices[d]->ops->attention_forward(devices[d], out, NULL, qkv, k, v, &p.view, shape);
        assert_close(out, want.out, R * 128, 1e-3, 1, "out"); /* scores near 500 carry 3e-5 each */
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(forward_and_backward_are_near_the_reference_and_alike_on_every_path),
        TEST(a_row_has_the_same_bits_in_decode_prefill_and_training),
        TEST(keys_behind_the_position_are_never_read),
        TEST(far_scores_neither_overflow_nor_vanish),
    };
    return cmocka_run_group_tests_name("attention", tests, devices_open, devices_close);
}
