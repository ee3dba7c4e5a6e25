/* CUDA's matrix products against the CPU's: Candor's own, and on a device that has it the library's too, which serves the shapes that
 * were prepared. */
#include "tests/twin/compute/twin.h"

struct size {
    int32_t R, n, k;
};

/* Odd sizes take the narrow way of fetching; few rows and many take different tiles; k of several steps and a rest. */
static const struct size sizes[] = {{1, 8, 8},    {1, 77, 40},   {16, 64, 64},   {17, 64, 96},  {5, 136, 200},
                                    {33, 72, 33}, {130, 71, 35}, {140, 72, 104}, {200, 16, 16}, {2100, 16, 24}};
#define EACH_SIZE(s) for (const struct size *s = sizes; s < sizes + sizeof sizes / sizeof *sizes; s++)

/* From here on the library may serve this shape; under the emulator there is none. */
static void prepare(int32_t n, int32_t k) {
    assert_int_equal(cuda->ops->prepare_matmul(cuda, n, k), STATUS_OK);
}

/* What a product with a bias or without may do with what is there; a model wants the last two. */
static const struct form {
    enum write_mode mode;
    bool biased;
} forms[] = {{WRITE_ADD, true}, {WRITE_OVER, true}, {WRITE_ADD, false}};
#define FORMS 3

/* Whole numbers up to 3 and at most 200 of them: every sum is exact in fp32 and, below 256, in bf16 (so is 1 less). */
static void whole_numbers_are_exact(void **state) {
    (void)state;
    EACH_SIZE(s) {
        int64_t R = s->R, n = s->n, k = s->k;
        float *x = random_integers(R * k, 1), *w = random_integers(n * k, 1), *bias = random_integers(n, 3);
        float *dy = random_integers(R * n, 1), *old = random_integers(R * n, 9), *y[FORMS];
        float *y32 = floats(R * n), *dx = floats(R * k), *dw = random_integers(n * k, 9),
              *dw_old = copy_floats(dw, n * k);
        for (int f = 0; f < FORMS; f++) {
            y[f] = copy_floats(old, R * n);
            cpu->ops->matmul(cpu, y[f], forms[f].mode, x, weight_f32(w), forms[f].biased ? weight_f32(bias) : NO_BIAS,
                             s->R, s->n, s->k);
        }
        cpu->ops->matmul_f32(cpu, y32, x, weight_f32(w), s->R, s->n, s->k);
        cpu->ops->matmul_dx(cpu, dx, WRITE_OVER, dy, weight_f32(w), s->R, s->n, s->k);
        cpu->ops->matmul_dw(cpu, dw, dy, x, s->R, s->n, s->k);
        EACH_ORDER(o) {
            if (o > 1 && R > 100)
                continue; /* time */
            if (o == 1)
                prepare(s->n, s->k);
            struct weight d_w = {device_bf16(w, n * k), DTYPE_BF16}, d_bias = {device_bf16(bias, n), DTYPE_BF16};
            void *d_x = device_bf16(x, R * k), *d_dy = device_bf16(dy, R * n);
            void *d_dx = device_bytes(NULL, (size_t)(R * k) * 2);
            float *d_y32 = device_bytes(NULL, (size_t)(R * n) * 4), *d_dw = device_floats(dw_old, n * k);
            for (int f = 0; f < FORMS; f++) {
                void *d_y = device_bf16(old, R * n);
                cuda->ops->matmul(cuda, d_y, forms[f].mode, d_x, d_w, forms[f].biased ? d_bias : NO_BIAS, s->R, s->n,
                                  s->k);
                assert_same_bits(host_of_bf16(d_y, R * n), y[f], R * n, "matmul");
            }
            cuda->ops->matmul_f32(cuda, d_y32, d_x, d_w, s->R, s->n, s->k);
            cuda->ops->matmul_dx(cuda, d_dx, WRITE_OVER, d_dy, d_w, s->R, s->n, s->k);
            cuda->ops->matmul_dw(cuda, d_dw, d_dy, d_x, s->R, s->n, s->k);
            assert_same_bits(host_of_floats(d_y32, R * n), y32, R * n, "matmul_f32");
            assert_same_bits(host_of_bf16(d_dx, R * k), dx, R * k, "matmul_dx");
            assert_same_bits(host_of_floats(d_dw, n * k), dw, n * k, "matmul_dw added");
        }
        twin_free_all(NULL);
    }
}

/* fp32 sums of k products below 1 in two orders: k 2^-24 of their size, which is about sqrt(k); a device's tensor cores cut
 * instead of rounding, twice that. */
static void fractions_are_near(void **state) {
    (void)state;
    EACH_SIZE(s) {
        int64_t R = s->R, n = s->n, k = s->k;
        float *x = rounded_floats(R * k), *w = rounded_floats(n * k), *y32 = floats(R * n), *y = floats(R * n);
        cpu->ops->matmul_f32(cpu, y32, x, weight_f32(w), s->R, s->n, s->k);
        cpu->ops->matmul(cpu, y, WRITE_OVER, x, weight_f32(w), NO_BIAS, s->R, s->n, s->k);
        struct weight d_w = {device_bf16(w, n * k), DTYPE_BF16};
        void *d_x = device_bf16(x, R * k), *d_y = device_bytes(NULL, (size_t)(R * n) * 2);
        float *d_y32 = device_bytes(NULL, (size_t)(R * n) * 4);
        double error = (double)k * 0x1p-23 * sqrt((double)k);
        for (int prepared = 0; prepared < 2; prepared++) {
            if (prepared)
                prepare(s->n, s->k);
            cuda->ops->matmul_f32(cuda, d_y32, d_x, d_w, s->R, s->n, s->k);
            cuda->ops->matmul(cuda, d_y, WRITE_OVER, d_x, d_w, NO_BIAS, s->R, s->n, s->k);
            assert_near(host_of_floats(d_y32, R * n), y32, R * n, 0, error, "matmul_f32");
            assert_near(host_of_bf16(d_y, R * n), y, R * n, BF16_STEP, error, "matmul");
        }
        twin_free_all(NULL);
    }
}

/* Both tiles, any place in the batch. */
static void a_row_has_the_same_bits_alone_and_in_any_batch(void **state) {
    (void)state;
    enum { N = 72, K = 104, MOST = 131 };
    static const int32_t batches[] = {2, 15, 16, 17, 64, MOST};
    float *x = rounded_floats(MOST * K), *w = rounded_floats(N * K);
    struct weight d_w = {device_bf16(w, N * K), DTYPE_BF16};
    uint16_t *d_x = device_bf16(x, MOST * K);
    float *alone = device_bytes(NULL, N * 4), *batch = device_bytes(NULL, MOST * N * 4);
    uint16_t *alone_dx = device_bytes(NULL, K * 2), *dx = device_bytes(NULL, MOST * K * 2);
    for (unsigned i = 0; i < 2 * sizeof batches / sizeof *batches; i++) {
        unsigned b = i % (sizeof batches / sizeof *batches);
        int32_t R = batches[b], row = (R - 1) * (int32_t)(b % 2);
        if (i == sizeof batches / sizeof *batches)
            prepare(N, K);
        cuda->ops->matmul_f32(cuda, alone, d_x + row * K, d_w, 1, N, K);
        cuda->ops->matmul_f32(cuda, batch, d_x, d_w, R, N, K);
        assert_same_bits(host_of_floats(batch + row * N, N), host_of_floats(alone, N), N, "y");
        /* rows of N elements: the same memory read as dy */
        cuda->ops->matmul_dx(cuda, alone_dx, WRITE_OVER, d_x + row * N, d_w, 1, N, K);
        cuda->ops->matmul_dx(cuda, dx, WRITE_OVER, d_x, d_w, R, N, K);
        assert_same_bits(host_of_bf16(dx + row * K, K), host_of_bf16(alone_dx, K), K, "dx");
    }
}

/* Parameters lie one behind the other, so after an odd one at any even address. */
static void weights_may_lie_anywhere(void **state) {
    (void)state;
    enum { R = 20, N = 24, K = 40 };
    float *x = random_integers(R * K, 1), *w = random_integers(N * K, 1), *y = floats(R * N), *dx = floats(R * K);
    float *behind_one = floats(N * K + 1);
    memcpy(behind_one + 1, w, N * K * sizeof *w);
    cpu->ops->matmul_f32(cpu, y, x, weight_f32(w), R, N, K);
    cpu->ops->matmul_dx(cpu, dx, WRITE_OVER, y, weight_f32(w), R, N, K);
    struct weight d_w = {(uint16_t *)device_bf16(behind_one, N * K + 1) + 1, DTYPE_BF16};
    float *d_y = device_bytes(NULL, R * N * 4);
    void *d_dx = device_bytes(NULL, R * K * 2);
    cuda->ops->matmul_f32(cuda, d_y, device_bf16(x, R * K), d_w, R, N, K);
    cuda->ops->matmul_dx(cuda, d_dx, WRITE_OVER, device_bf16(y, R * N), d_w, R, N, K);
    assert_same_bits(host_of_floats(d_y, R * N), y, R * N, "y");
    assert_same_bits(host_of_bf16(d_dx, R * K), of_bf16(to_bf16(dx, R * K), R * K), R * K, "dx");
}

static void no_rows_change_nothing(void **state) {
    (void)state;
    float *y = rounded_floats(8), *w = rounded_floats(32);
    struct weight d_w = {device_bf16(w, 32), DTYPE_BF16};
    void *d_y = device_bf16(y, 8);
    float *d_dw = device_floats(y, 8);
    cuda->ops->matmul(cuda, d_y, WRITE_OVER, d_y, d_w, NO_BIAS, 0, 8, 4);
    cuda->ops->matmul_dw(cuda, d_dw, d_y, d_y, 0, 2, 4);
    cuda->ops->embed_forward(cuda, d_y, d_w, NULL, 0, 4);
    cuda->ops->rmsnorm_backward(cuda, d_y, WRITE_OVER, d_dw, d_y, d_y, d_dw, d_w, 0, 4);
    assert_same_bits(host_of_bf16(d_y, 8), y, 8, "y");
    assert_same_bits(host_of_floats(d_dw, 8), y, 8, "dw");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(whole_numbers_are_exact, twin_free_all),
        cmocka_unit_test_teardown(fractions_are_near, twin_free_all),
        cmocka_unit_test_teardown(a_row_has_the_same_bits_alone_and_in_any_batch, twin_free_all),
        cmocka_unit_test_teardown(weights_may_lie_anywhere, twin_free_all),
        cmocka_unit_test_teardown(no_rows_change_nothing, twin_free_all),
    };
    return cmocka_run_group_tests_name("matmul", tests, twins_open, twins_close);
}
