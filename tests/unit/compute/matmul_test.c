/* Matrix products: exact on whole numbers, near an fp64 reference otherwise, and the same bits on every path, for every
 * batch and thread count. */
#include "tests/support/compute/fixture.h"

#include <string.h>

struct size {
    int32_t R, n, k;
};

static const struct size sizes[] = {{1, 1, 1},      {1, 17, 5},    {2, 16, 16},  {3, 33, 31},
                                    {6, 48, 64},    {7, 50, 129},  {12, 31, 32}, {13, 100, 449},
                                    {29, 70, 1000}, {64, 96, 128}, {300, 40, 24}};

#define EACH_SIZE(s) for (const struct size *s = sizes; s < sizes + sizeof sizes / sizeof sizes[0]; s++)
#define EACH_DEVICE(d) for (int d = 0; d < device_count; d++)

/* y [R,n] = x [R,k] w[n,k]^T in double */
static double *reference(const float *x, const float *w, int64_t R, int64_t n, int64_t k) {
    double *y = bytes_of((size_t)(R * n) * sizeof *y);
    for (int64_t r = 0; r < R; r++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t p = 0; p < k; p++)
                y[r * n + j] += (double)x[r * k + p] * (double)w[j * k + p];
    return y;
}

static float *transposed(const float *x, int64_t rows, int64_t columns) {
    float *to = floats(rows * columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            to[j * rows + i] = x[i * columns + j];
    return to;
}

static void whole_numbers_are_exact(void **state) {
    (void)state;
    EACH_SIZE(s) {
        int64_t R = s->R, n = s->n, k = s->k;
        float *x = random_integers(R * k, 9), *w = random_integers(n * k, 9), *dy = random_integers(R * n, 9);
        float *bias = random_integers(n, 9), *old = random_integers(R * n, 9), *y = floats(R * n);
        uint16_t *w16 = to_bf16(w, n * k);
        double *want = reference(x, w, R, n, k), *want_dx = reference(dy, transposed(w, n, k), R, k, n);
        double *want_dw = reference(transposed(dy, R, n), transposed(x, R, k), n, k, R);
        double *want_add = bytes_of((size_t)(R * n) * sizeof *want);
        for (int64_t i = 0; i < R * n; i++)
            want_add[i] = want[i] + (double)bias[i % n] + (double)old[i];
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            ops->matmul_f32(devices[d], y, x, weight_bf16(w16), s->R, s->n, s->k);
            assert_close(y, want, R * n, 0, 0, "matmul_f32, bf16 weights");
            ops->matmul(devices[d], y, WRITE_OVER, x, weight_f32(w), NO_BIAS, s->R, s->n, s->k);
            assert_close(y, want, R * n, 0, 0, "matmul, fp32 weights");
            memcpy(y, old, (size_t)(R * n) * sizeof *y);
            ops->matmul(devices[d], y, WRITE_ADD, x, weight_bf16(w16), weight_f32(bias), s->R, s->n, s->k);
            assert_close(y, want_add, R * n, 0, 0, "matmul, bias and add");

            float *dx = floats(R * k), *dw = floats(n * k);
            ops->matmul_dx(devices[d], dx, WRITE_OVER, dy, weight_bf16(w16), s->R, s->n, s->k);
            assert_close(dx, want_dx, R * k, 0, 0, "matmul_dx");
            ops->matmul_dx(devices[d], dx, WRITE_ADD, dy, weight_f32(w), s->R, s->n, s->k);
            for (int64_t i = 0; i < R * k; i++)
                dx[i] *= 0.5f;
            assert_close(dx, want_dx, R * k, 0, 0, "matmul_dx, added twice and halved");
            ops->matmul_dw(devices[d], dw, dy, x, s->R, s->n, s->k);
            ops->matmul_dw(devices[d], dw, dy, x, s->R, s->n, s->k);
            for (int64_t i = 0; i < n * k; i++)
                dw[i] *= 0.5f;
            assert_close(dw, want_dw, n * k, 0, 0, "matmul_dw, added twice and halved");
        }
        fixture_free_all(NULL);
    }
}

/* A chain of k roundings of partial sums: far below k * 2^-24 of the sum of magnitudes, which is about k/4 here. */
static void fractions_are_near_the_reference(void **state) {
    (void)state;
    EACH_SIZE(s) {
        int64_t R = s->R, n = s->n, k = s->k;
        float *x = random_floats(R * k), *w = of_bf16(to_bf16(random_floats(n * k), n * k), n * k), *y = floats(R * n);
        double *want = reference(x, w, R, n, k);
        EACH_DEVICE(d) {
            devices[d]->ops->matmul_f32(devices[d], y, x, weight_bf16(to_bf16(w, n * k)), s->R, s->n, s->k);
            assert_close(y, want, R * n, 1e-6, (double)k / 8, "matmul_f32");
        }
        fixture_free_all(NULL);
    }
}

/* All three products on every device against the first: same bits. */
static void every_path_and_thread_count_gives_the_same_bits(void **state) {
    (void)state;
    EACH_SIZE(s) {
        int64_t R = s->R, n = s->n, k = s->k;
        float *x = random_floats(R * k), *dy = random_floats(R * n), *bias = random_floats(n),
              *w = random_floats(n * k);
        uint16_t *w16 = to_bf16(w, n * k);
        float *y[DEVICES_MAX], *y32[DEVICES_MAX], *dx[DEVICES_MAX], *dw[DEVICES_MAX];
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            y[d] = copy_floats(dy, R * n);
            y32[d] = floats(R * n);
            dx[d] = copy_floats(x, R * k);
            dw[d] = copy_floats(w, n * k);
            ops->matmul(devices[d], y[d], WRITE_ADD, x, weight_bf16(w16), weight_f32(bias), s->R, s->n, s->k);
            ops->matmul_f32(devices[d], y32[d], x, weight_f32(w), s->R, s->n, s->k);
            ops->matmul_dx(devices[d], dx[d], WRITE_ADD, dy, weight_bf16(w16), s->R, s->n, s->k);
            ops->matmul_dw(devices[d], dw[d], dy, x, s->R, s->n, s->k);
            assert_same_bits(y[d], y[0], R * n, devices[d]->name);
            assert_same_bits(y32[d], y32[0], R * n, devices[d]->name);
            assert_same_bits(dx[d], dx[0], R * k, devices[d]->name);
            assert_same_bits(dw[d], dw[0], n * k, devices[d]->name);
        }
        fixture_free_all(NULL);
    }
}

static void a_row_has_the_same_bits_alone_and_in_any_batch(void **state) {
    (void)state;
    enum { N = 77, K = 471, MOST = 64 };
    float *x = random_floats(MOST * K), *w = random_floats(N * K), *row = random_floats(K);
    uint16_t *w16 = to_bf16(w, N * K);
    float *alone = floats(N), *alone32 = floats(N), *alone_dx = floats(N), *y = floats(MOST * N);
    devices[0]->ops->matmul_f32(devices[0], alone, row, weight_bf16(w16), 1, N, K);
    devices[0]->ops->matmul_f32(devices[0], alone32, row, weight_f32(w), 1, N, K);
    devices[0]->ops->matmul_dx(devices[0], alone_dx, WRITE_OVER, row, weight_bf16(w16), 1, K, N);
    EACH_DEVICE(d)
    for (int32_t R = 1; R <= MOST; R++)
        for (int last = 0; last < 2; last++) {
            const struct ops *ops = devices[d]->ops;
            if (R > 17 && R % 16 > 1)
                continue;
            int64_t place = last ? R - 1 : 0;
            float *batch = copy_floats(x, (int64_t)R * K);
            memcpy(batch + place * K, row, K * sizeof *row);
            ops->matmul_f32(devices[d], y, batch, weight_bf16(w16), R, N, K);
            assert_same_bits(y + place * N, alone, N, "bf16 weights");
            ops->matmul_f32(devices[d], y, batch, weight_f32(w), R, N, K);
            assert_same_bits(y + place * N, alone32, N, "fp32 weights");
            ops->matmul_dx(devices[d], y, WRITE_OVER, batch, weight_bf16(w16), R, K, N);
            assert_same_bits(y + place * N, alone_dx, N, "dx");
        }
}

static void weight_gradient_of_rows_in_parts_has_the_bits_of_all_at_once(void **state) {
    (void)state;
    enum { R = 700, N = 37, K = 50 };
    float *x = random_floats(R * K), *dy = random_floats(R * N), *whole = floats(N * K);
    devices[0]->ops->matmul_dw(devices[0], whole, dy, x, R, N, K);
    EACH_DEVICE(d) {
        float *parts = floats(N * K);
        for (int32_t r = 0, step = 1; r < R; r += step, step = 2 * step + 1)
            devices[d]->ops->matmul_dw(devices[d], parts, dy + r * N, x + r * K, step < R - r ? step : R - r, N, K);
        assert_same_bits(parts, whole, N * K, devices[d]->name);
    }
}

static void no_rows_change_nothing(void **state) {
    (void)state;
    float *y = random_floats(8), *before = copy_floats(y, 8), *w = random_floats(32);
    EACH_DEVICE(d) {
        devices[d]->ops->matmul(devices[d], y, WRITE_OVER, w, weight_f32(w), NO_BIAS, 0, 8, 4);
        devices[d]->ops->matmul_dw(devices[d], y, w, w, 0, 2, 4);
        assert_same_bits(y, before, 8, "untouched");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(whole_numbers_are_exact, fixture_free_all),
        cmocka_unit_test_teardown(fractions_are_near_the_reference, fixture_free_all),
        cmocka_unit_test_teardown(every_path_and_thread_count_gives_the_same_bits, fixture_free_all),
        cmocka_unit_test_teardown(a_row_has_the_same_bits_alone_and_in_any_batch, fixture_free_all),
        cmocka_unit_test_teardown(weight_gradient_of_rows_in_parts_has_the_bits_of_all_at_once, fixture_free_all),
        cmocka_unit_test_teardown(no_rows_change_nothing, fixture_free_all),
    };
    return cmocka_run_group_tests_name("matmul", tests, devices_open, devices_close);
}
