/* Embedding, rows, norm, SwiGLU, rotary positions: CUDA's kernels under the emulator against the CPU's. */
#include "tests/twin/compute/twin.h"

/* Odd ones take the kernels' narrow way, multiples of 8 the wide one; 1032 is more than a warp's pass. */
static const int32_t widths[] = {1, 5, 8, 17, 64, 127, 1032};
#define EACH_WIDTH(H) for (int w_ = 0, H = 0; w_ < 7 && (H = widths[w_]) > 0; w_++)

static void embedding_agrees(void **state) {
    (void)state;
    enum { V = 11, R = 70 };
    EACH_WIDTH(H) {
        int32_t ids[R];
        for (int r = 0; r < R; r++)
            ids[r] = random_below(V);
        float *w = rounded_floats(V * H), *dx = rounded_floats(R * H), *x = floats(R * H), *dw = random_floats(V * H);
        float *dw_before = copy_floats(dw, V * H);
        cpu->ops->embed_forward(cpu, x, weight_f32(w), ids, R, H);
        cpu->ops->embed_backward(cpu, dw, dx, ids, R, H, V);
        EACH_ORDER(o) {
            void *got = device_bytes(NULL, R * (size_t)H * 2), *got_dw = device_floats(dw_before, V * H);
            int32_t *d_ids = device_ints(ids, R);
            struct weight narrow = {device_bf16(w, V * H), DTYPE_BF16}, wide = {device_floats(w, V * H), DTYPE_F32};
            cuda->ops->embed_forward(cuda, got, o % 2 ? narrow : wide, d_ids, R, H);
            cuda->ops->embed_backward(cuda, got_dw, device_bf16(dx, R * H), d_ids, R, H, V);
            assert_same_bits(host_of_bf16(got, R * H), x, R * H, "embed_forward copies");
            assert_same_bits(host_of_floats(got_dw, V * H), dw, V * H, "embed_backward adds in the same order");
        }
        twin_free_all(NULL);
    }
}

static void rows_agree(void **state) {
    (void)state;
    enum { R = 30, COUNT = 12 };
    EACH_WIDTH(H) {
        int32_t rows[COUNT] = {0, 0, 3, 4, 9, 9, 9, 15, 20, 21, 29, 29};
        float *x = rounded_floats(R * H), *y = rounded_floats(COUNT * H), *gathered = floats(COUNT * H);
        float *scattered = copy_floats(x, R * H), *sum = copy_floats(x, R * H);
        cpu->ops->gather_rows(cpu, gathered, x, rows, COUNT, H);
        cpu->ops->scatter_add_rows(cpu, scattered, y, rows, COUNT, H);
        cpu->ops->add(cpu, sum, x, R * H);
        EACH_ORDER(o) {
            int32_t *d_rows = device_ints(rows, COUNT);
            void *d_x = device_bf16(x, R * H), *got = device_bytes(NULL, COUNT * (size_t)H * 2);
            cuda->ops->gather_rows(cuda, got, d_x, d_rows, COUNT, H);
            assert_same_bits(host_of_bf16(got, COUNT * H), gathered, COUNT * H, "gather_rows copies");
            void *d_sum = device_bf16(x, R * H);
            cuda->ops->add(cuda, d_sum, d_x, R * H);
            assert_same_bits(host_of_bf16(d_sum, R * H), sum, R * H, "twice a bf16 is a bf16");
            cuda->ops->scatter_add_rows(cuda, d_x, device_bf16(y, COUNT * H), d_rows, COUNT, H);
            assert_same_bits(host_of_bf16(d_x, R * H), of_bf16(to_bf16(scattered, R * H), R * H), R * H,
                             "scatter_add_rows: the same fp32 sum, rounded once");
        }
        twin_free_all(NULL);
    }
}

/* 300 rows are three blocks of rows, whose sums are added in another order than the CPU's: fp32 error of 300 terms below 1. */
static void bias_gradient_agrees(void **state) {
    (void)state;
    enum { R = 300 };
    EACH_WIDTH(n) {
        float *dy = rounded_floats(R * n), *db = random_floats(n), *before = copy_floats(db, n), *first = NULL;
        cpu->ops->bias_backward(cpu, db, dy, R, n);
        EACH_ORDER(o) {
            float *got = device_floats(before, n);
            cuda->ops->bias_backward(cuda, got, device_bf16(dy, R * n), R, n);
            float *host = host_of_floats(got, n);
            assert_near(host, db, n, 0, 300 * 0x1p-24 * 20, "bias_backward");
            first = first ? first : host;
            assert_same_bits(host, first, n, "bias_backward in another order of lanes");
        }
        twin_free_all(NULL);
    }
}

/* y: fp32 error far below the rounding to bf16. dx: its terms cancel where H is small, so the error is that of their size. */
static void rmsnorm_agrees(void **state) {
    (void)state;
    enum { R = 9 };
    EACH_WIDTH(H) {
        float *x = rounded_floats(R * H), *dy = rounded_floats(R * H), *w = rounded_floats(H),
              *old = rounded_floats(R * H);
        float *y = floats(R * H), *rstd = floats(R), *dx = copy_floats(old, R * H), *over = floats(R * H),
              *dw = floats(H);
        cpu->ops->rmsnorm_forward(cpu, y, rstd, x, weight_f32(w), R, H, 1e-6f);
        cpu->ops->rmsnorm_backward(cpu, dx, WRITE_ADD, dw, dy, x, rstd, weight_f32(w), R, H);
        cpu->ops->rmsnorm_backward(cpu, over, WRITE_OVER, floats(H), dy, x, rstd, weight_f32(w), R, H);
        float largest = 0;
        for (int r = 0; r < R; r++)
            largest = fmaxf(largest, rstd[r]);
        EACH_ORDER(o) {
            struct weight narrow = {device_bf16(w, H), DTYPE_BF16}, wide = {device_floats(w, H), DTYPE_F32};
            struct weight d_w = o % 2 ? narrow : wide;
            void *d_x = device_bf16(x, R * H), *d_dy = device_bf16(dy, R * H),
                 *d_y = device_bytes(NULL, R * (size_t)H * 2);
            float *d_rstd = device_bytes(NULL, R * sizeof(float)), *d_dw = device_bytes(NULL, (size_t)H * 4);
            cuda->ops->rmsnorm_forward(cuda, d_y, d_rstd, d_x, d_w, R, H, 1e-6f);
            assert_near(host_of_floats(d_rstd, R), rstd, R, 1e-6, 0, "rstd");
            assert_near(host_of_bf16(d_y, R * H), y, R * H, BF16_STEP, 1e-6, "rmsnorm_forward");
            void *d_dx = device_bf16(old, R * H);
            cuda->ops->rmsnorm_backward(cuda, d_dx, WRITE_ADD, d_dw, d_dy, d_x, d_rstd, d_w, R, H);
            assert_near(host_of_bf16(d_dx, R * H), dx, R * H, BF16_STEP, 1e-5 * (double)largest,
                        "rmsnorm_backward, dx added");
            assert_near(host_of_floats(d_dw, H), dw, H, 1e-5, 1e-5, "rmsnorm_backward, dw");
            cuda->ops->rmsnorm_backward(cuda, d_dy, WRITE_OVER, d_dw, d_dy, d_x, d_rstd, d_w, R, H);
            assert_near(host_of_bf16(d_dy, R * H), over, R * H, BF16_STEP, 1e-5 * (double)largest,
                        "rmsnorm_backward, dx in the place of dy");
        }
        twin_free_all(NULL);
    }
}

static void swiglu_agrees(void **state) {
    (void)state;
    enum { R = 7 };
    EACH_WIDTH(F) {
        float *gate_up = random_floats(R * 2 * F), *dh = rounded_floats(R * F), *h = floats(R * F),
              *d = floats(R * 2 * F);
        for (int i = 0; i < R * 2 * F; i++) /* row 0: e^-g overflows or vanishes */
            gate_up[i] *= i < 2 * F ? 300.0f : 6.0f;
        gate_up = of_bf16(to_bf16(gate_up, R * 2 * F), R * 2 * F);
        cpu->ops->swiglu_forward(cpu, h, gate_up, R, F);
        cpu->ops->swiglu_backward(cpu, d, dh, gate_up, R, F);
        EACH_ORDER(o) {
            void *d_gate_up = device_bf16(gate_up, R * 2 * F), *d_h = device_bytes(NULL, R * (size_t)F * 2);
            cuda->ops->swiglu_forward(cuda, d_h, d_gate_up, R, F);
            /* the same fp32 operations in the same order: the bits of the CPU's result, rounded */
            assert_same_bits(host_of_bf16(d_h, R * F), of_bf16(to_bf16(h, R * F), R * F), R * F, "swiglu_forward");
            cuda->ops->swiglu_backward(cuda, d_gate_up, device_bf16(dh, R * F), d_gate_up, R, F);
            assert_same_bits(host_of_bf16(d_gate_up, R * 2 * F), of_bf16(to_bf16(d, R * 2 * F), R * 2 * F), R * 2 * F,
                             "swiglu_backward in place");
        }
        twin_free_all(NULL);
    }
}

static void rope_agrees(void **state) {
    (void)state;
    enum { R = 6, P = 50, SLOTS = 10 };
    for (int D = 64; D <= 128; D += 64) {
        struct attention_shape shape = {5, 2, D, 1.0f};
        int32_t width = (5 + 4) * D, kv = 2 * D, positions[R] = {0, 1, 2, 49, 7, 7}, slots[R] = {5, 0, 9, 3, 1, 7};
        float *table = floats(P * D), *qkv = rounded_floats(R * width), *turned = copy_floats(qkv, R * width);
        float *k = floats(SLOTS * kv), *v = floats(SLOTS * kv);
        for (int p = 0; p < P; p++)
            for (int i = 0; i < D / 2; i++) {
                double angle = p * pow(1e6, -2.0 * i / D);
                table[p * D + 2 * i] = (float)cos(angle);
                table[p * D + 2 * i + 1] = (float)sin(angle);
            }
        float *dk = rounded_floats(R * kv), *dv = rounded_floats(R * kv), *back = copy_floats(qkv, R * width);
        cpu->ops->rope_forward(cpu, turned, k, v, table, positions, slots, R, shape);
        cpu->ops->rope_backward(cpu, back, dk, dv, table, positions, R, shape);
        EACH_ORDER(o) {
            void *d_qkv = device_bf16(qkv, R * width), *d_back = device_bf16(qkv, R * width);
            void *d_k = device_bytes(NULL, SLOTS * (size_t)kv * 2), *d_v = device_bytes(NULL, SLOTS * (size_t)kv * 2);
            float *d_table = device_floats(table, P * D);
            int32_t *d_positions = device_ints(positions, R), *d_slots = device_ints(slots, R);
            cuda->ops->rope_forward(cuda, d_qkv, d_k, d_v, d_table, d_positions, d_slots, R, shape);
            cuda->ops->rope_backward(cuda, d_back, device_bf16(dk, R * kv), device_bf16(dv, R * kv), d_table,
                                     d_positions, R, shape);
            assert_same_bits(host_of_bf16(d_qkv, R * width), of_bf16(to_bf16(turned, R * width), R * width), R * width,
                             "q");
            assert_same_bits(host_of_bf16(d_k, SLOTS * kv), of_bf16(to_bf16(k, SLOTS * kv), SLOTS * kv), SLOTS * kv,
                             "k");
            assert_same_bits(host_of_bf16(d_v, SLOTS * kv), v, SLOTS * kv, "v is copied");
            assert_same_bits(host_of_bf16(d_back, R * width), of_bf16(to_bf16(back, R * width), R * width), R * width,
                             "backward");
        }
        twin_free_all(NULL);
    }
}

static void a_norm_row_has_the_same_bits_alone_and_in_any_batch(void **state) {
    (void)state;
    enum { R = 9, H = 200 };
    float *x = rounded_floats(R * H);
    struct weight w = {device_bf16(rounded_floats(H), H), DTYPE_BF16};
    uint16_t *d_x = device_bf16(x, R * H), *d_y = device_bytes(NULL, R * H * 2), *alone = device_bytes(NULL, H * 2);
    float *rstd = device_bytes(NULL, R * sizeof *rstd);
    cuda->ops->rmsnorm_forward(cuda, d_y, rstd, d_x, w, R, H, 1e-6f);
    for (int r = 0; r < R; r++) {
        cuda->ops->rmsnorm_forward(cuda, alone, rstd, d_x + r * H, w, 1, H, 1e-6f);
        assert_same_bits(host_of_bf16(alone, H), host_of_bf16(d_y + r * H, H), H, "row");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(embedding_agrees, twin_free_all),
        cmocka_unit_test_teardown(rows_agree, twin_free_all),
        cmocka_unit_test_teardown(bias_gradient_agrees, twin_free_all),
        cmocka_unit_test_teardown(rmsnorm_agrees, twin_free_all),
        cmocka_unit_test_teardown(swiglu_agrees, twin_free_all),
        cmocka_unit_test_teardown(rope_agrees, twin_free_all),
        cmocka_unit_test_teardown(a_norm_row_has_the_same_bits_alone_and_in_any_batch, twin_free_all),
    };
    return cmocka_run_group_tests_name("rows", tests, twins_open, twins_close);
}
