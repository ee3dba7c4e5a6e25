/* Finite differences for every backward operation: the loss is a fixed random weighting c of the forward's outputs, so
 * its gradient by the outputs is c; along each input's random directions and single coordinates the analytic slope must
 * be the central difference. Forward runs in fp32: with steps of 2^-7 its rounding weighs about 1e-4 of a slope. */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <string.h>

#define STEP 0x1p-7

struct problem {
    int inputs;
    float *input[4], *gradient[4];
    int64_t count[4];
    int64_t out_count;
    float *c; /* [out_count] */
    /* out [out_count] over */
    void (*forward)(const struct problem *p, float *out);
    const void *more;
};

static double loss(const struct problem *p, float *out) {
    double sum = 0;
    p->forward(p, out);
    for (int64_t i = 0; i < p->out_count; i++)
        sum += (double)out[i] * (double)p->c[i];
    return sum;
}

/* The direction is random, or one coordinate. */
static void check_slope(const struct problem *p, int input, bool one, const char *what) {
    int64_t count = p->count[input];
    float *x = p->input[input], *held = copy_floats(x, count), *direction = one ? floats(count) : random_floats(count);
    float *out = floats(p->out_count);
    double slope = 0, size = 0;
    if (one)
        direction[random_below((int32_t)count)] = 1.0f;
    for (int64_t i = 0; i < count; i++) {
        slope += (double)p->gradient[input][i] * (double)direction[i];
        size += pow((double)p->gradient[input][i] * (double)direction[i], 2);
        x[i] = held[i] + (float)STEP * direction[i];
    }
    double above = loss(p, out);
    for (int64_t i = 0; i < count; i++)
        x[i] = held[i] - (float)STEP * direction[i];
    double measured = (above - loss(p, out)) / (2 * STEP);
    memcpy(x, held, (size_t)count * sizeof *x);
    if (fabs(measured - slope) > 4e-3 * (1 + sqrt(size)))
        fail_msg("%s, input %d, %s: slope %.6g, measured %.6g", what, input, one ? "coordinate" : "direction", slope,
                 measured);
}

static void check(const struct problem *p, const char *what) {
    for (int input = 0; input < p->inputs; input++)
        for (int i = 0; i < 12; i++)
            check_slope(p, input, i >= 6, what);
}

#define DEVICE (devices[0])
#define OPS (devices[0]->ops)

enum { R = 9, H = 33, N = 21 };

static void norm_forward(const struct problem *p, float *out) {
    float rstd[R];
    OPS->rmsnorm_forward(DEVICE, out, rstd, p->input[0], weight_f32(p->input[1]), R, H, 1e-5f);
}

static void rmsnorm_slopes(void **state) {
    (void)state;
    float *x = random_floats(R * H), *w = random_floats(H), *c = random_floats(R * H), *y = floats(R * H), rstd[R];
    float *dx = floats(R * H), *dw = floats(H);
    OPS->rmsnorm_forward(DEVICE, y, rstd, x, weight_f32(w), R, H, 1e-5f);
    OPS->rmsnorm_backward(DEVICE, dx, WRITE_OVER, dw, c, x, rstd, weight_f32(w), R, H);
    check(&(struct problem){2, {x, w}, {dx, dw}, {R * H, H}, R * H, c, norm_forward, NULL}, "rmsnorm");
}

static void matmul_forward(const struct problem *p, float *out) {
    OPS->matmul(DEVICE, out, WRITE_OVER, p->input[0], weight_f32(p->input[1]), weight_f32(p->input[2]), R, N, H);
}

static void matmul_slopes(void **state) {
    (void)state;
    float *x = random_floats(R * H), *w = random_floats(N * H), *bias = random_floats(N), *c = random_floats(R * N);
    float *dx = floats(R * H), *dw = floats(N * H), *db = floats(N);
    OPS->matmul_dx(DEVICE, dx, WRITE_OVER, c, weight_f32(w), R, N, H);
    OPS->matmul_dw(DEVICE, dw, c, x, R, N, H);
    OPS->bias_backward(DEVICE, db, c, R, N);
    check(&(struct problem){3, {x, w, bias}, {dx, dw, db}, {R * H, N * H, N}, R * N, c, matmul_forward, NULL},
          "matmul");
}

static void swiglu_forward(const struct problem *p, float *out) {
    OPS->swiglu_forward(DEVICE, out, p->input[0], R, H);
}

static void swiglu_slopes(void **state) {
    (void)state;
    float *gate_up = random_floats(R * 2 * H), *c = random_floats(R * H), *d = floats(R * 2 * H);
    for (int i = 0; i < R * 2 * H; i++)
        gate_up[i] *= 3.0f;
    OPS->swiglu_backward(DEVICE, d, c, gate_up, R, H);
    check(&(struct problem){1, {gate_up}, {d}, {R * 2 * H}, R * H, c, swiglu_forward, NULL}, "swiglu");
}

static const int32_t embed_ids[R] = {3, 1, 3, 0, 7, 3, 3, 1, 6};

static void embed_forward(const struct problem *p, float *out) {
    OPS->embed_forward(DEVICE, out, weight_f32(p->input[0]), embed_ids, R, H);
}

static void embed_slopes(void **state) {
    (void)state;
    float *w = random_floats(8 * H), *c = random_floats(R * H), *dw = floats(8 * H);
    OPS->embed_backward(DEVICE, dw, c, embed_ids, R, H, 8);
    check(&(struct problem){1, {w}, {dw}, {8 * H}, R * H, c, embed_forward, NULL}, "embed");
}

struct targets {
    int32_t id[R], valid;
    float inv_temperature;
};

static void logprob_forward(const struct problem *p, float *out) {
    const struct targets *t = p->more;
    float lse[R];
    OPS->logprob_forward(DEVICE, out, lse, NULL, p->input[0], t->id, R, H, t->valid, t->inv_temperature);
}

static void logprob_slopes(void **state) {
    (void)state;
    struct targets t = {{0, 5, 29, 7, 7, 1, 2, 3, 4}, 30, 0.7f};
    float *logits = random_floats(R * H), *c = random_floats(R), *d = floats(R * H), lp[R], lse[R];
    for (int i = 0; i < R * H; i++)
        logits[i] *= 3.0f;
    OPS->logprob_forward(DEVICE, lp, lse, NULL, logits, t.id, R, H, t.valid, t.inv_temperature);
    OPS->logprob_backward(DEVICE, d, logits, lse, c, t.id, R, H, t.valid, t.inv_temperature);
    check(&(struct problem){1, {logits}, {d}, {R * H}, R, c, logprob_forward, &t}, "logprob");
}

/* A prompt of 3 and two answers of 3, four heads over two: out is attention of the turned q, k and of v, by qkv. */
static const int32_t row_sequence[R] = {0, 0, 0, 1, 1, 1, 2, 2, 2}, row_position[R] = {0, 1, 2, 3, 4, 5, 3, 4, 5};
static const int32_t key_offset[4] = {0, 3, 9, 15}, tree_row[2] = {0, R}, slots[R] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
static const int32_t key_rows[15] = {0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 1, 2, 6, 7, 8};
static const struct attention_view view = {R, 3, row_sequence, row_position, key_offset, key_rows, 1, tree_row};
enum { D = 64, WIDTH = 8 * D };
static const struct attention_shape shape = {4, 2, D, 0.125f};

struct turned {
    float *table, *qkv, *k, *v, *lse;
};

static void attention_forward(const struct problem *p, float *out) {
    const struct turned *t = p->more;
    memcpy(t->qkv, p->input[0], R * WIDTH * sizeof(float));
    OPS->rope_forward(DEVICE, t->qkv, t->k, t->v, t->table, row_position, slots, R, shape);
    OPS->attention_forward(DEVICE, out, t->lse, t->qkv, t->k, t->v, &view, shape);
}

static void attention_and_rope_slopes(void **state) {
    (void)state;
    float *qkv = random_floats(R * WIDTH), *c = random_floats(R * 4 * D), *out = floats(R * 4 * D);
    float *d = floats(R * WIDTH), *dk = floats(R * 2 * D), *dv = floats(R * 2 * D);
    struct turned t = {floats(6 * D), floats(R * WIDTH), floats(R * 2 * D), floats(R * 2 * D), floats(R * 4)};
    for (int i = 0; i < 3 * D; i++) {
        t.table[2 * i] = cosf((float)(i / (D / 2)) / (float)(1 + i % (D / 2)));
        t.table[2 * i + 1] = sinf((float)(i / (D / 2)) / (float)(1 + i % (D / 2)));
    }
    struct problem p = {1, {qkv}, {d}, {R * WIDTH}, R * 4 * D, c, attention_forward, &t};
    attention_forward(&p, out);
    OPS->attention_backward(DEVICE, d, dk, dv, c, out, t.lse, t.qkv, t.k, t.v, &view, shape);
    OPS->rope_backward(DEVICE, d, dk, dv, t.table, row_position, R, shape);
    check(&p, "attention");
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(rmsnorm_slopes), TEST(matmul_slopes),  TEST(swiglu_slopes),
        TEST(embed_slopes),   TEST(logprob_slopes), TEST(attention_and_rope_slopes),
    };
    return cmocka_run_group_tests_name("gradients", tests, devices_open, devices_close);
}
