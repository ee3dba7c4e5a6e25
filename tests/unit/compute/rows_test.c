/* Embedding, norm, SwiGLU, rotary positions and row operations. */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <string.h>

#define EACH_DEVICE(d) for (int d = 0; d < device_count; d++)

static const int32_t widths[] = {1, 5, 16, 17, 64, 127, 896};
#define EACH_WIDTH(H) for (int w_ = 0, H = 0; w_ < 7 && (H = widths[w_]) > 0; w_++)

static void embedding_copies_rows_and_adds_gradients(void **state) {
    (void)state;
    enum { V = 11, R = 40 };
    EACH_WIDTH(H) {
        int32_t ids[R];
        float *w = random_integers(V * H, 100), *dx = random_integers(R * H, 100), *x = floats(R * H);
        uint16_t *w16 = to_bf16(w, V * H);
        double *want = bytes_of((size_t)(R * H) * 8), *want_dw = bytes_of((size_t)(V * H) * 8);
        for (int r = 0; r < R; r++) {
            ids[r] = random_below(V);
            for (int i = 0; i < H; i++) {
                want[r * H + i] = (double)w[ids[r] * H + i];
                want_dw[ids[r] * H + i] += (double)dx[r * H + i];
            }
        }
        for (int i = 0; i < V * H; i++)
            want_dw[i] += 7;
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            ops->embed_forward(devices[d], x, weight_bf16(w16), ids, R, H);
            assert_close(x, want, R * H, 0, 0, "bf16");
            ops->embed_forward(devices[d], x, weight_f32(w), ids, R, H);
            assert_close(x, want, R * H, 0, 0, "fp32");
            float *dw = floats(V * H);
            for (int i = 0; i < V * H; i++)
                dw[i] = 7;
            ops->embed_backward(devices[d], dw, dx, ids, R, H, V);
            assert_close(dw, want_dw, V * H, 0, 0, "dw");
        }
        fixture_free_all(NULL);
    }
}

static void row_operations_move_and_add(void **state) {
    (void)state;
    enum { R = 30, COUNT = 12 };
    EACH_WIDTH(H) {
        int32_t rows[COUNT] = {0, 0, 3, 4, 9, 9, 9, 15, 20, 21, 29, 29};
        float *x = random_integers(R * H, 50), *y = random_integers(COUNT * H, 50), *got = floats(COUNT * H);
        double *gathered = bytes_of((size_t)(COUNT * H) * 8), *scattered = bytes_of((size_t)(R * H) * 8);
        double *sums = bytes_of((size_t)H * 8), *twice = bytes_of((size_t)(R * H) * 8);
        for (int i = 0; i < R * H; i++) {
            scattered[i] = (double)x[i];
            sums[i % H] += (double)x[i];
            twice[i] = 2 * (double)x[i];
        }
        for (int c = 0; c < COUNT; c++)
            for (int i = 0; i < H; i++) {
                gathered[c * H + i] = (double)x[rows[c] * H + i];
                scattered[rows[c] * H + i] += (double)y[c * H + i];
            }
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            float *to = copy_floats(x, R * H), *db = floats(H), *sum = copy_floats(x, R * H);
            ops->gather_rows(devices[d], got, x, rows, COUNT, H);
            assert_close(got, gathered, COUNT * H, 0, 0, "gather");
            ops->scatter_add_rows(devices[d], to, y, rows, COUNT, H);
            assert_close(to, scattered, R * H, 0, 0, "scatter");
            ops->bias_backward(devices[d], db, x, R, H);
            assert_close(db, sums, H, 0, 0, "bias_backward");
            ops->add(devices[d], sum, x, R * H);
            assert_close(sum, twice, R * H, 0, 0, "add");
        }
        fixture_free_all(NULL);
    }
}

static void rmsnorm_is_near_the_reference_and_alike_on_every_path(void **state) {
    (void)state;
    enum { R = 9 };
    EACH_WIDTH(H) {
        float *x = random_floats(R * H), *dy = random_floats(R * H), *w = random_floats(H), *old = random_floats(R * H);
        float *w16 = of_bf16(to_bf16(w, H), H), *first[3] = {NULL};
        double *y = bytes_of((size_t)(R * H) * 8), *dx = bytes_of((size_t)(R * H) * 8), *dw = bytes_of((size_t)H * 8);
        for (int r = 0; r < R; r++) {
            double squares = 0, mean = 0;
            for (int i = 0; i < H; i++)
                squares += (double)x[r * H + i] * (double)x[r * H + i];
            double rstd = 1 / sqrt(squares / H + 1e-6);
            for (int i = 0; i < H; i++)
                mean += (double)dy[r * H + i] * (double)w16[i] * (double)x[r * H + i] * rstd / H;
            for (int i = 0; i < H; i++) {
                double n = (double)x[r * H + i] * rstd;
                y[r * H + i] = n * (double)w16[i];
                dw[i] += (double)dy[r * H + i] * n;
                dx[r * H + i] = (double)old[r * H + i] + rstd * ((double)dy[r * H + i] * (double)w16[i] - n * mean);
            }
        }
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            float *got = floats(R * H), *rstd = floats(R), *got_dx = copy_floats(old, R * H), *got_dw = floats(H);
            ops->rmsnorm_forward(devices[d], got, rstd, x, weight_bf16(to_bf16(w, H)), R, H, 1e-6f);
            ops->rmsnorm_backward(devices[d], got_dx, WRITE_ADD, got_dw, dy, x, rstd, weight_f32(w16), R, H);
            assert_close(got, y, R * H, 1e-6, 1, "y");
            assert_close(got_dx, dx, R * H, 1e-5, H == 1 ? 10 : 1, "dx");
            assert_close(got_dw, dw, H, 1e-6, 1, "dw");
            float *now[3] = {got, got_dx, got_dw};
            for (int i = 0; i < 3; i++) {
                first[i] = first[i] == NULL ? now[i] : first[i];
                assert_same_bits(now[i], first[i], i == 2 ? H : R * H, devices[d]->name);
            }
            float *again = copy_floats(dy, R * H), *over = floats(R * H), *dw_over = floats(H), *dw_again = floats(H);
            ops->rmsnorm_backward(devices[d], over, WRITE_OVER, dw_over, dy, x, rstd, weight_f32(w16), R, H);
            ops->rmsnorm_backward(devices[d], again, WRITE_OVER, dw_again, again, x, rstd, weight_f32(w16), R, H);
            assert_same_bits(again, over, R * H, "dx in the place of dy");
            assert_same_bits(dw_again, dw_over, H, "dw where dx is in the place of dy");
        }
        fixture_free_all(NULL);
    }
}

static void swiglu_is_near_the_reference_and_alike_on_every_path(void **state) {
    (void)state;
    enum { R = 7 };
    EACH_WIDTH(F) {
        float *gate_up = random_floats(R * 2 * F), *dh = random_floats(R * F), *first[2] = {NULL};
        double *h = bytes_of((size_t)(R * F) * 8), *d_gate_up = bytes_of((size_t)(R * 2 * F) * 8);
        for (int r = 0; r < R; r++)
            for (int i = 0; i < F; i++) {
                float *gate = &gate_up[2 * r * F + i];
                *gate *= r == 0 ? 300.0f : 6.0f; /* row 0: e^-g overflows or vanishes */
                double g = (double)*gate, u = (double)gate[F], s = 1 / (1 + exp(-g)), d = (double)dh[r * F + i];
                h[r * F + i] = g * s * u;
                d_gate_up[2 * r * F + i] = d * u * s * (1 + g * (1 - s));
                d_gate_up[2 * r * F + F + i] = d * g * s;
            }
        EACH_DEVICE(d) {
            float *got = floats(R * F), *got_d = copy_floats(gate_up, R * 2 * F);
            devices[d]->ops->swiglu_forward(devices[d], got, gate_up, R, F);
            devices[d]->ops->swiglu_backward(devices[d], got_d, dh, got_d, R, F);
            assert_close(got, h, R * F, 1e-6, 1, "h");
            assert_close(got_d, d_gate_up, R * 2 * F, 2e-6, 1, "d_gate_up");
            float *now[2] = {got, got_d};
            for (int i = 0; i < 2; i++) {
                first[i] = first[i] == NULL ? now[i] : first[i];
                assert_same_bits(now[i], first[i], (1 + i) * R * F, devices[d]->name);
            }
        }
        fixture_free_all(NULL);
    }
}

static void rope_turns_and_turns_back(void **state) {
    (void)state;
    enum { R = 6, P = 50 };
    for (int D = 64; D <= 128; D += 64) {
        struct attention_shape shape = {3, 2, D, 1.0f};
        int32_t width = (3 + 4) * D, positions[R] = {0, 1, 2, 49, 7, 7}, slots[R] = {5, 0, 9, 3, 1, 7};
        float *table = floats(P * D), *qkv = random_floats(R * width), *first = NULL;
        for (int p = 0; p < P; p++)
            for (int i = 0; i < D / 2; i++) {
                double angle = p * pow(1e6, -2.0 * i / D);
                table[p * D + 2 * i] = (float)cos(angle);
                table[p * D + 2 * i + 1] = (float)sin(angle);
            }
        EACH_DEVICE(d) {
            const struct ops *ops = devices[d]->ops;
            float *turned = copy_floats(qkv, R * width), *k = floats(10 * 2 * D), *v = floats(10 * 2 * D);
            ops->rope_forward(devices[d], turned, k, v, table, positions, slots, R, shape);
            first = first == NULL ? copy_floats(turned, R * width) : first;
            assert_same_bits(turned, first, R * width, devices[d]->name);
            float *dk = floats(R * 2 * D), *dv = floats(R * 2 * D);
            for (int r = 0; r < R; r++) {
                const float *row = qkv + r * width;
                assert_same_bits(v + slots[r] * 2 * D, row + 5 * D, 2 * D, "v");
                for (int h = 0; h < 5; h++)
                    for (int i = 0; i < D / 2; i++) {
                        double c = (double)table[positions[r] * D + 2 * i],
                               s = (double)table[positions[r] * D + 2 * i + 1];
                        double a = (double)row[h * D + i], b = (double)row[h * D + D / 2 + i];
                        const float *got = h < 3 ? turned + r * width + h * D : k + slots[r] * 2 * D + (h - 3) * D;
                        double want[2] = {a * c - b * s, b * c + a * s};
                        assert_close(&got[i], &want[0], 1, 1e-6, 1, "a");
                        assert_close(&got[D / 2 + i], &want[1], 1, 1e-6, 1, "b");
                    }
                memcpy(dk + r * 2 * D, k + slots[r] * 2 * D, (size_t)(2 * D) * 4);
                memcpy(dv + r * 2 * D, v + slots[r] * 2 * D, (size_t)(2 * D) * 4);
            }
            ops->rope_backward(devices[d], turned, dk, dv, table, positions, R, shape);
            double *want = bytes_of((size_t)(R * width) * 8);
            for (int i = 0; i < R * width; i++)
                want[i] = (double)qkv[i];
            assert_close(turned, want, R * width, 1e-6, 1, "there and back");
        }
        fixture_free_all(NULL);
    }
}

/* Rows in one call or one by one: what adds over rows goes on from what is there. */
static void gradients_over_rows_in_parts_have_the_bits_of_all_at_once(void **state) {
    (void)state;
    enum { R = 300, H = 130, V = 6 };
    float *dx = random_floats(R * H), *x = random_floats(R * H), *rstd = random_floats(R), *w = random_floats(H);
    int32_t ids[R];
    for (int r = 0; r < R; r++)
        ids[r] = random_below(V);
    EACH_DEVICE(d) {
        const struct ops *ops = devices[d]->ops;
        float *whole[3] = {floats(V * H), floats(H), floats(H)}, *parts[3] = {floats(V * H), floats(H), floats(H)};
        float *out = floats(R * H);
        ops->embed_backward(devices[d], whole[0], dx, ids, R, H, V);
        ops->bias_backward(devices[d], whole[1], dx, R, H);
        ops->rmsnorm_backward(devices[d], out, WRITE_OVER, whole[2], dx, x, rstd, weight_f32(w), R, H);
        for (int r = 0; r < R; r++) {
            ops->embed_backward(devices[d], parts[0], dx + r * H, ids + r, 1, H, V);
            ops->bias_backward(devices[d], parts[1], dx + r * H, 1, H);
            ops->rmsnorm_backward(devices[d], out + r * H, WRITE_OVER, parts[2], dx + r * H, x + r * H, rstd + r,
                                  weight_f32(w), 1, H);
        }
        assert_same_bits(parts[0], whole[0], V * H, "embed_backward");
        assert_same_bits(parts[1], whole[1], H, "bias_backward");
        assert_same_bits(parts[2], whole[2], H, "rmsnorm_backward");
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(embedding_copies_rows_and_adds_gradients),
        TEST(row_operations_move_and_add),
        TEST(rmsnorm_is_near_the_reference_and_alike_on_every_path),
        TEST(swiglu_is_near_the_reference_and_alike_on_every_path),
        TEST(rope_turns_and_turns_back),
        TEST(gradients_over_rows_in_parts_have_the_bits_of_all_at_once),
    };
    return cmocka_run_group_tests_name("rows", tests, devices_open, devices_close);
}
