/* What lt.cu does around cuBLASLt: choosing, padding, cutting, declining; with a stand-in for the library
 * (tests/support/emulator/cublas). */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" {
#include <cmocka.h>
}
#undef fail

#include <cublasLt.h>

#include "common/compute/cuda/kernel.cuh"
#include "common/compute/cuda/lt.h"
#include "tests/support/emulator/device.h"

enum { N = 24, K = 16, ROWS = 2100 };

static struct device *device;
static uint16_t *x, *dy, *w, *bias, *y, *dx; /* device: [ROWS,K] [ROWS,N] [N,K] [N] [ROWS,N] [ROWS,K] */
static float *y32, *dw;                      /* [ROWS,N] [N,K] */

static void *allocate(size_t bytes) {
    void *memory = NULL;
    assert_int_equal(cuda_allocate(device, bytes, &memory), STATUS_OK);
    return memory;
}

/* Whole numbers from -2 to 2: sums of them are exact, in bf16 below 256 too. Fractions are not. */
static uint16_t *numbers(int64_t count, bool fractions) {
    static uint32_t state = 1;
    uint16_t *to = (uint16_t *)allocate((size_t)count * 2);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = bf16_of_f32(fractions ? (float)(int32_t)state * 0x1p-31f : (float)(state >> 16) / 13107.2f - 2.0f);
        if (!fractions)
            to[i] = bf16_of_f32((float)(int)f32_of_bf16(to[i]));
    }
    return to;
}

static void begin(bool fit, bool fractions) {
    assert_int_equal(emulator_open(0, &device), STATUS_OK);
    stand_in_has_even = fit;
    assert_int_equal(lt_create(device, &cuda_state_of(device)->lt), STATUS_OK);
    x = numbers(ROWS * K, fractions);
    dy = numbers(ROWS * N, fractions);
    w = numbers(N * K, fractions);
    bias = numbers(N, fractions);
    y = numbers(ROWS * N, false);
    dx = numbers(ROWS * K, false);
    y32 = (float *)allocate(ROWS * N * sizeof(float));
    dw = (float *)allocate(N * K * sizeof(float));
}

static void end() {
    void *memory[] = {x, dy, w, bias, y, dx, y32, dw};
    for (void *each : memory)
        cuda_release(device, each);
    lt_destroy(&cuda_state_of(device)->lt);
    emulator_close(&device);
}

static const struct weight none = {NULL, DTYPE_BF16};
static struct weight matrix() {
    return {w, DTYPE_BF16};
}

/* sum over i of a[i * a_step] b[i * b_step] */
static float dot(const uint16_t *a, int64_t a_step, const uint16_t *b, int64_t b_step, int64_t count) {
    float sum = 0.0f;
    for (int64_t i = 0; i < count; i++)
        sum += f32_of_bf16(a[i * a_step]) * f32_of_bf16(b[i * b_step]);
    return sum;
}

/* Of R rows, and of nothing behind them. */
static void check_rows(int32_t R) {
    uint16_t *was = (uint16_t *)malloc(ROWS * N * 2), *dx_was = (uint16_t *)malloc(ROWS * K * 2);
    memcpy(was, y, ROWS * N * 2);
    memcpy(dx_was, dx, ROWS * K * 2);
    assert_true(lt_matmul(device, y, WRITE_ADD, x, matrix(), none, R, N, K));
    assert_true(lt_matmul_f32(device, y32, x, matrix(), R, N, K));
    assert_true(lt_matmul_dx(device, dx, WRITE_ADD, dy, matrix(), R, N, K));
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t i = 0; i < N; i++) {
            float sum = dot(x + r * K, 1, w + i * K, 1, K), old = f32_of_bf16(was[r * N + i]);
            assert_true(f32_of_bf16(y[r * N + i]) == (r < R ? old + sum : old));
            assert_true(r >= R || y32[r * N + i] == sum);
        }
        for (int32_t i = 0; i < K; i++) {
            float sum = dot(dy + r * N, 1, w + i, K, N), old = f32_of_bf16(dx_was[r * K + i]);
            assert_true(f32_of_bf16(dx[r * K + i]) == (r < R ? old + sum : old));
        }
    }
    assert_true(lt_matmul(device, y, WRITE_OVER, x, matrix(), {bias, DTYPE_BF16}, R, N, K));
    for (int32_t r = 0; r < R; r++)
        for (int32_t i = 0; i < N; i++)
            assert_true(f32_of_bf16(y[r * N + i]) == f32_of_bf16(bias[i]) + dot(x + r * K, 1, w + i * K, 1, K));
    memcpy(y, was, ROWS * N * 2);
    memcpy(dx, dx_was, ROWS * K * 2);
    free(was);
    free(dx_was);
}

static void products_are_exact_for_any_count_of_rows(void **) {
    static const int32_t counts[] = {1, 15, 16, 17, 100, 2048, 2049, ROWS};
    begin(true, false);
    assert_int_equal(lt_prepare(device, N, K), STATUS_OK);
    assert_non_null(strstr(device->products, "for 3 of 3"));
    assert_int_equal(cudaGetLastError(), 0); /* of proposals that failed */
    for (int32_t R : counts)
        check_rows(R);
    assert_true(lt_matmul_dw(device, dw, dy, x, 41, N, K) && lt_matmul_dw(device, dw, dy, x, 8, N, K));
    for (int32_t n = 0; n < N; n++)
        for (int32_t k = 0; k < K; k++)
            assert_true(dw[n * K + k] == dot(dy + n, N, x + k, K, 41) + dot(dy + n, N, x + k, K, 8));
    end();
}

static void a_row_has_the_same_bits_in_any_batch(void **) {
    float alone[N], batch[N];
    begin(true, true);
    assert_int_equal(lt_prepare(device, N, K), STATUS_OK);
    for (int32_t R = 1; R <= 400; R += 57) {
        assert_true(lt_matmul_f32(device, y32, x, matrix(), R, N, K));
        int32_t row = (R - 1) / 2; /* among whole steps, where there are some */
        memcpy(batch, y32 + row * N, sizeof batch);
        assert_true(lt_matmul_f32(device, y32, x + row * K, matrix(), 1, N, K));
        memcpy(alone, y32, sizeof alone);
        assert_memory_equal(batch, alone, sizeof alone);
    }
    end();
}

static void what_the_library_must_not_make_is_left_to_candor(void **) {
    begin(false, true);
    assert_int_equal(lt_prepare(device, N, K), STATUS_OK);
    assert_non_null(strstr(device->products, "for 0 of 3"));
    assert_false(lt_matmul(device, y, WRITE_OVER, x, matrix(), none, 16, N, K));
    assert_false(lt_matmul_dw(device, dw, dy, x, 16, N, K));
    end();
    begin(true, true);
    assert_false(lt_matmul(device, y, WRITE_OVER, x, matrix(), none, 16, N, K)); /* not prepared */
    assert_int_equal(lt_prepare(device, N, K), STATUS_OK);
    assert_int_equal(lt_prepare(device, 7, K), STATUS_OK);
    assert_false(lt_matmul(device, y, WRITE_OVER, x, matrix(), none, 16, 7, K));
    assert_false(lt_matmul(device, y, WRITE_ADD, x, matrix(), {bias, DTYPE_BF16}, 16, N, K));
    assert_false(lt_matmul(device, y + 1, WRITE_OVER, x, matrix(), none, 16, N, K)); /* not on 16 bytes */
    end();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_exact_for_any_count_of_rows),
        cmocka_unit_test(a_row_has_the_same_bits_in_any_batch),
        cmocka_unit_test(what_the_library_must_not_make_is_left_to_candor),
    };
    return cmocka_run_group_tests_name("library", tests, NULL, NULL);
}
