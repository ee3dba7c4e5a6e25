/* Attention: CUDA's kernels under the emulator against the CPU's, over packed trees and over pages; and decode against
 * training, bit for bit. */
#include "tests/twin/compute/twin.h"

/* Trees as training packs them: a prompt and answers hanging on it; the first answer continues the prompt's sequence. */
struct tree {
    int32_t prompt, answers, answer;
};

struct packed {
    struct attention_view view, device_view;
    int32_t R;
};

static struct packed pack(const struct tree *trees, int32_t tree_count) {
    enum { MOST = 4000 };
    int32_t *row_sequence = bytes_of(MOST * 4), *row_position = bytes_of(MOST * 4), *key_offset = bytes_of(MOST * 4);
    int32_t *key_rows = bytes_of(MOST * 4), *tree_row = bytes_of(64 * 4), row = 0, sequence = 0, key = 0;
    for (int32_t t = 0; t < tree_count; t++) {
        int32_t root = row;
        for (int32_t a = 0; a < trees[t].answers || a == 0; a++) {
            for (int32_t i = 0; i < trees[t].prompt; i++)
                key_rows[key++] = root + i;
            int32_t first = a == 0 ? 0 : trees[t].prompt,
                    end = trees[t].prompt + (trees[t].answers > 0 ? trees[t].answer : 0);
            for (int32_t p = first; p < end; p++) {
                row_sequence[row] = sequence;
                row_position[row] = p;
                if (p >= trees[t].prompt)
                    key_rows[key++] = row;
                row++;
            }
            key_offset[++sequence] = key;
        }
        tree_row[t + 1] = row;
    }
    assert_true(key <= MOST);
    struct packed p = {.R = row};
    p.view =
        (struct attention_view){row, sequence, row_sequence, row_position, key_offset, key_rows, tree_count, tree_row};
    p.device_view = p.view;
    p.device_view.row_sequence = device_ints(row_sequence, row);
    p.device_view.row_position = device_ints(row_position, row);
    p.device_view.key_offset = device_ints(key_offset, sequence + 1);
    p.device_view.key_rows = device_ints(key_rows, key);
    return p;
}

/* Groups of the models and a single head; both head sizes. */
static const struct attention_shape shapes[] = {
    {2, 2, 64, 0.125f},  {5, 1, 128, 0.08838835f}, {12, 2, 128, 0.08838835f},
    {14, 2, 64, 0.125f}, {7, 1, 128, 0.08838835f}, {8, 1, 128, 0.08838835f},
};
static const struct tree forest[] = {{33, 3, 7}, {1, 2, 40}, {31, 1, 2}, {6, 0, 0}, {20, 4, 5}};

/* Probabilities are rounded to bf16, 2^-9 of each, and weigh values below 1: below 2^-9 in the sum; then out is rounded. */
static void forward_agrees(void **state) {
    (void)state;
    for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct attention_shape shape = shapes[s];
        struct packed p = pack(forest, 5);
        int64_t R = p.R, N = shape.heads, K = shape.kv_heads, D = shape.head_dim, width = (N + 2 * K) * D;
        float *qkv = rounded_floats(R * width), *k = rounded_floats(R * K * D), *v = rounded_floats(R * K * D);
        for (int64_t i = 0; i < R * width; i++)
            qkv[i] *= 4; /* far from uniform probabilities */
        float *out = floats(R * N * D), *lse = floats(R * N), *first = NULL;
        cpu->ops->attention_forward(cpu, out, lse, qkv, k, v, &p.view, shape);
        void *d_qkv = device_bf16(qkv, R * width), *d_k = device_bf16(k, R * K * D), *d_v = device_bf16(v, R * K * D);
        for (int order = 0; order < (s == 0 ? 3 : 1); order++) {
            emulator_close(&cuda);
            assert_int_equal(emulator_open(orders[order], &cuda), STATUS_OK);
            void *d_out = device_bytes(NULL, (size_t)(R * N * D) * 2);
            float *d_lse = device_bytes(NULL, (size_t)(R * N) * 4);
            cuda->ops->attention_forward(cuda, d_out, d_lse, d_qkv, d_k, d_v, &p.device_view, shape);
            float *got = host_of_bf16(d_out, R * N * D);
            assert_near(got, out, R * N * D, BF16_STEP, 0x1p-9, "out");
            assert_near(host_of_floats(d_lse, R * N), lse, R * N, 1e-6, 1e-5, "lse");
            first = first ? first : got;
            assert_same_bits(got, first, R * N * D, "out in another order of lanes");
        }
        twin_free_all(NULL);
    }
}

/* p and ds are rounded to bf16 (2^-9 of each) before sums of up to 69 or, over query vectors, 8 * 81 products; ds and dout are
 * of size 1 or below and the roundings are independent: their size is sqrt(648) 2^-9 / 4 at most, and out's own error
 * enters by delta. */
static void backward_agrees(void **state) {
    (void)state;
    for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct attention_shape shape = shapes[s];
        struct packed p = pack(forest, 5);
        int64_t R = p.R, N = shape.heads, K = shape.kv_heads, D = shape.head_dim, width = (N + 2 * K) * D;
        float *qkv = rounded_floats(R * width), *k = rounded_floats(R * K * D), *v = rounded_floats(R * K * D);
        float *dout = rounded_floats(R * N * D), *out = floats(R * N * D), *lse = floats(R * N);
        float *dqkv = floats(R * width), *dk = floats(R * K * D), *dv = floats(R * K * D);
        cpu->ops->attention_forward(cpu, out, lse, qkv, k, v, &p.view, shape);
        out = of_bf16(to_bf16(out, R * N * D), R * N * D);
        cpu->ops->attention_backward(cpu, dqkv, dk, dv, dout, out, lse, qkv, k, v, &p.view, shape);
        void *d_qkv = device_bf16(qkv, R * width), *d_k = device_bf16(k, R * K * D), *d_v = device_bf16(v, R * K * D);
        void *d_dout = device_bf16(dout, R * N * D), *d_out = device_bf16(out, R * N * D);
        float *d_lse = device_floats(lse, R * N), *first[3] = {NULL};
        for (int order = 0; order < (s == 0 ? 3 : 1); order++) {
            emulator_close(&cuda);
            assert_int_equal(emulator_open(orders[order], &cuda), STATUS_OK);
            void *d_dqkv = device_bf16(dqkv, R * width), *d_dk = device_bf16(v, R * K * D),
                 *d_dv = device_bf16(k, R * K * D);
            cuda->ops->attention_backward(cuda, d_dqkv, d_dk, d_dv, d_dout, d_out, d_lse, d_qkv, d_k, d_v,
                                          &p.device_view, shape);
            float *got[3] = {host_of_bf16(d_dqkv, R * width), host_of_bf16(d_dk, R * K * D),
                             host_of_bf16(d_dv, R * K * D)};
            int64_t counts[3] = {R * width, R * K * D, R * K * D};
            assert_near(got[0], dqkv, R * width, BF16_STEP, 0.004, "dq");
            assert_near(got[1], dk, R * K * D, BF16_STEP, 0.01, "dk");
            assert_near(got[2], dv, R * K * D, BF16_STEP, 0.01, "dv");
            for (int i = 0; i < 3; i++) {
                first[i] = first[i] ? first[i] : got[i];
                assert_same_bits(got[i], first[i], counts[i], "gradients in another order of lanes");
            }
        }
        twin_free_all(NULL);
    }
}

/* One row's query, key, value and outgoing gradient are not finite. Rows that do not attend
 * to it keep their bits, forward and backward; those that do are as little finite as on the CPU. */
struct poisoned {
    float *out, *dqkv, *dk, *dv; /* as CUDA gives them */
    float *cpu_out, *cpu_dqkv, *cpu_dk, *cpu_dv;
};

static void poison(float *rows, int64_t row, int64_t width, float with) {
    for (int64_t i = 0; with != 0 && i < width; i++)
        rows[row * width + i] = with;
}

static struct poisoned run_poisoned(const struct packed *p, struct attention_shape shape, int64_t bad, float with,
                                    const float *const clean[4]) {
    int64_t R = p->R, N = shape.heads, K = shape.kv_heads, D = shape.head_dim, width = (N + 2 * K) * D;
    float *qkv = copy_floats(clean[0], R * width), *k = copy_floats(clean[1], R * K * D),
          *v = copy_floats(clean[2], R * K * D), *dout = copy_floats(clean[3], R * N * D), *lse = floats(R * N);
    poison(qkv, bad, width, with);
    poison(k, bad, K * D, with);
    poison(v, bad, K * D, with);
    poison(dout, bad, N * D, with);
    struct poisoned r = {.cpu_out = floats(R * N * D),
                         .cpu_dqkv = floats(R * width),
                         .cpu_dk = floats(R * K * D),
                         .cpu_dv = floats(R * K * D)};
    cpu->ops->attention_forward(cpu, r.cpu_out, lse, qkv, k, v, &p->view, shape);
    cpu->ops->attention_backward(cpu, r.cpu_dqkv, r.cpu_dk, r.cpu_dv, dout, r.cpu_out, lse, qkv, k, v, &p->view, shape);
    void *d_qkv = device_bf16(qkv, R * width), *d_k = device_bf16(k, R * K * D), *d_v = device_bf16(v, R * K * D);
    void *d_dout = device_bf16(dout, R * N * D), *d_out = device_bytes(NULL, (size_t)(R * N * D) * 2);
    float *d_lse = device_bytes(NULL, (size_t)(R * N) * 4);
    void *d_dqkv = device_bytes(NULL, (size_t)(R * width) * 2), *d_dk = device_bytes(NULL, (size_t)(R * K * D) * 2),
         *d_dv = device_bytes(NULL, (size_t)(R * K * D) * 2);
    cuda->ops->attention_forward(cuda, d_out, d_lse, d_qkv, d_k, d_v, &p->device_view, shape);
    cuda->ops->attention_backward(cuda, d_dqkv, d_dk, d_dv, d_dout, d_out, d_lse, d_qkv, d_k, d_v, &p->device_view,
                                  shape);
    r.out = host_of_bf16(d_out, R * N * D);
    r.dqkv = host_of_bf16(d_dqkv, R * width);
    r.dk = host_of_bf16(d_dk, R * K * D);
    r.dv = host_of_bf16(d_dv, R * K * D);
    return r;
}

/* Row by row: where the CPU's is finite, CUDA's has the bits that it has without the poison; elsewhere it is not finite either. */
static void assert_spread_alike(const float *got, const float *clean, const float *on_cpu, int64_t R, int64_t width,
                                int64_t used, const char *what) {
    for (int64_t r = 0; r < R; r++) {
        bool finite = true, got_finite = true;
        for (int64_t i = 0; i < used; i++) {
            finite = finite && isfinite(on_cpu[r * width + i]);
            got_finite = got_finite && isfinite(got[r * width + i]);
        }
        if (finite)
            assert_same_bits(got + r * width, clean + r * width, used, what);
        else if (got_finite)
            fail_msg("%s: row %lld is finite; on the CPU it is not", what, (long long)r);
    }
}

static void a_row_that_is_not_finite_spreads_no_further(void **state) {
    (void)state;
    static const struct tree trees[] = {{33, 3, 7}, {6, 2, 9}};
    static const int64_t bad_rows[] = {20, 35, 41, 60}; /* in a prompt, in answers, in the second tree */
    for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s += 2)
        for (int b = 0; b < 4; b++) {
            struct attention_shape shape = shapes[s];
            struct packed p = pack(trees, 2);
            int64_t R = p.R, N = shape.heads, K = shape.kv_heads, D = shape.head_dim, width = (N + 2 * K) * D;
            const float *const clean[4] = {rounded_floats(R * width), rounded_floats(R * K * D),
                                           rounded_floats(R * K * D), rounded_floats(R * N * D)};
            struct poisoned want = run_poisoned(&p, shape, bad_rows[b], 0, clean);
            struct poisoned got = run_poisoned(&p, shape, bad_rows[b], b % 2 ? INFINITY : NAN, clean);
            assert_spread_alike(got.out, want.out, got.cpu_out, R, N * D, N * D, "out");
            assert_spread_alike(got.dqkv, want.dqkv, got.cpu_dqkv, R, width, N * D, "dq");
            assert_spread_alike(got.dk, want.dk, got.cpu_dk, R, K * D, K * D, "dk");
            assert_spread_alike(got.dv, want.dv, got.cpu_dv, R, K * D, K * D, "dv");
            twin_free_all(NULL);
        }
}

/* One sequence of `tokens`, its keys in pages scattered over a cache with garbage between them. */
struct paged {
    int32_t *key_rows; /* host */
    uint16_t *k, *v;   /* device */
};

static struct paged scatter_pages(const uint16_t *k, const uint16_t *v, const int32_t *rows, int32_t tokens,
                                  int64_t width) {
    enum { PAGES = 8 };
    static const int32_t places[PAGES] = {5, 0, 7, 2, 1, 6, 3, 4};
    struct paged p = {bytes_of((size_t)tokens * 4), NULL, NULL};
    size_t bytes = (size_t)(PAGES * KV_PAGE_TOKENS * width) * 2;
    void *garbage = bytes_of(bytes);
    memset(garbage, 0xff, bytes); /* NaN: whoever reads a row that is not in the list shows */
    p.k = device_bytes(garbage, bytes);
    p.v = device_bytes(garbage, bytes);
    for (int32_t i = 0; i < tokens; i++) {
        p.key_rows[i] = places[i / KV_PAGE_TOKENS] * KV_PAGE_TOKENS + i % KV_PAGE_TOKENS;
        cuda->ops->copy(cuda, p.k + p.key_rows[i] * width, k + rows[i] * width, (size_t)width * 2);
        cuda->ops->copy(cuda, p.v + p.key_rows[i] * width, v + rows[i] * width, (size_t)width * 2);
    }
    return p;
}

/* The same tokens, packed as a tree for training and one by one out of pages for decode: the same bits. Each decoded row is
 * in a batch with a row of another sequence. */
static void decode_and_training_agree_to_the_bit(void **state) {
    (void)state;
    static const struct tree trees[] = {{5, 1, 3}, {37, 3, 30}};
    for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct attention_shape shape = shapes[s];
        struct packed p = pack(trees, 2);
        int64_t R = p.R, N = shape.heads, K = shape.kv_heads, D = shape.head_dim, width = (N + 2 * K) * D, out = N * D;
        uint16_t *qkv = device_bf16(rounded_floats(R * width), R * width),
                 *trained = device_bytes(NULL, (size_t)(R * out) * 2);
        uint16_t *k = device_bf16(rounded_floats(R * K * D), R * K * D),
                 *v = device_bf16(rounded_floats(R * K * D), R * K * D);
        float *trained_lse = device_bytes(NULL, (size_t)(R * N) * 4);
        cuda->ops->attention_forward(cuda, trained, trained_lse, qkv, k, v, &p.device_view, shape);
        int32_t sequence = p.view.sequences - 1, tokens = p.view.key_offset[sequence + 1] - p.view.key_offset[sequence];
        const int32_t *rows =
            p.view.key_rows + p.view.key_offset[sequence]; /* the last answer's: prompt, then itself */
        struct paged pages = scatter_pages(k, v, rows, tokens, K * D);
        for (int32_t i = tokens - 33; i < tokens; i++) {
            int32_t offsets[3] = {0, 1, i + 2}, keys[128], positions[2] = {0, i}, sequences[2] = {0, 1};
            keys[0] = pages.key_rows[0];
            memcpy(keys + 1, pages.key_rows, (size_t)(i + 1) * 4);
            uint16_t *batch = device_bytes(NULL, (size_t)(2 * width) * 2),
                     *decoded = device_bytes(NULL, (size_t)(2 * out) * 2);
            float *lse = device_bytes(NULL, (size_t)(2 * N) * 4);
            cuda->ops->copy(cuda, batch, qkv + rows[0] * width, (size_t)width * 2);
            cuda->ops->copy(cuda, batch + width, qkv + rows[i] * width, (size_t)width * 2);
            struct attention_view view = {2,
                                          2,
                                          device_ints(sequences, 2),
                                          device_ints(positions, 2),
                                          device_ints(offsets, 3),
                                          device_ints(keys, i + 2),
                                          0,
                                          NULL};
            cuda->ops->attention_forward(cuda, decoded, lse, batch, pages.k, pages.v, &view, shape);
            assert_same_bits(host_of_bf16(decoded, out), host_of_bf16(trained + rows[0] * out, out), out,
                             "first token");
            assert_same_bits(host_of_bf16(decoded + out, out), host_of_bf16(trained + rows[i] * out, out), out,
                             "token");
            assert_same_bits(host_of_floats(lse + N, N), host_of_floats(trained_lse + rows[i] * N, N), N, "lse");
            if (i % 8 != 0 && i < tokens - 2)
                i++; /* time: not every token */
        }
        twin_free_all(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(forward_agrees, twin_free_all),
        cmocka_unit_test_teardown(backward_agrees, twin_free_all),
        cmocka_unit_test_teardown(a_row_that_is_not_finite_spreads_no_further, twin_free_all),
        cmocka_unit_test_teardown(decode_and_training_agree_to_the_bit, twin_free_all),
    };
    return cmocka_run_group_tests_name("attention", tests, twins_open, twins_close);
}
