/* Moments of eight bits against bitsandbytes: the maps of codes, quantised blocks, steps of AdamW8bit. moments.json is written by
 * make_moments.py. */
#include "tests/support/test.h"

#include <math.h>

#include "common/base/json.h"
#include "common/compute/cpu/cpu.h"
#include "common/compute/moments.h"
#include "common/compute/ops.h"

#define COUNT_MAX 1024

static json_t *golden;
static struct device *device;
static struct moment_tables tables;

static int64_t floats(const json_t *array, float *out) {
    int64_t count = (int64_t)json_array_size(array);
    assert_true(count > 0 && count <= COUNT_MAX);
    for (int64_t i = 0; i < count; i++)
        out[i] = (float)json_number_value(json_array_get(array, (size_t)i));
    return count;
}

static const json_t *of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_non_null(value);
    return value;
}

static float real(const json_t *object, const char *key) {
    return (float)json_number_value(of(object, key));
}

/* bitsandbytes makes a share in a few steps of fp32, Candor in double with one rounding. */
static void the_maps_of_codes_are_equal(void **state) {
    (void)state;
    float map[COUNT_MAX];
    for (int kind = 0; kind < 2; kind++) {
        const float *mine = kind ? tables.v.share : tables.m.share;
        assert_int_equal(floats(of(golden, kind ? "v_map" : "m_map"), map), MOMENT_CODES);
        for (int i = 0; i < MOMENT_CODES; i++)
            if (!(fabsf(mine[i] - map[i]) <= 4 * 0x1p-24f * fabsf(map[i])))
                fail_msg("%s[%d]: %.9g, bitsandbytes has %.9g", kind ? "v" : "m", i, (double)mine[i], (double)map[i]);
    }
}

struct state8 {
    uint8_t m[COUNT_MAX], v[COUNT_MAX];
    float m_most[COUNT_MAX / MOMENT_BLOCK], v_most[COUNT_MAX / MOMENT_BLOCK];
};

static struct moments8 moments_of(struct state8 *state) {
    return (struct moments8){state->m, state->v, state->m_most, state->v_most};
}

/* A gradient of g that leaves m = g or, of the root of g, v = g; codes, greatest and numbers read back. */
static void check_blocks(const char *kind, bool is_v) {
    static const struct adamw_step store = {0.0f, 0.0f, 0.0f, 1e-8f, 1.0f, 1.0f, 1.0f};
    const json_t *want = of(golden, kind);
    static struct state8 coded;
    float values[COUNT_MAX], g[COUNT_MAX], back[COUNT_MAX], greatest[COUNT_MAX], w[COUNT_MAX] = {0};
    memset(&coded, 0, sizeof coded);
    struct moments8 moments = moments_of(&coded);
    int64_t count = floats(of(want, "values"), values);
    floats(of(want, "back"), back);
    floats(of(want, "absmax"), greatest);
    for (int64_t i = 0; i < count; i++)
        g[i] = is_v ? sqrtf(values[i]) : values[i];
    device->ops->adamw8(device, w, DTYPE_F32, NULL, &moments, g, count, &store);
    const uint8_t *codes = is_v ? coded.v : coded.m;
    const float *most = is_v ? coded.v_most : coded.m_most, *shares = is_v ? tables.v.share : tables.m.share;
    for (int64_t i = 0; i < count; i++) {
        json_int_t code = json_integer_value(json_array_get(of(want, "codes"), (size_t)i));
        float mine = shares[codes[i]] * most[i / MOMENT_BLOCK];
        if (codes[i] != code)
            fail_msg("%s[%lld] = %.9g: code %d, bitsandbytes has %d", kind, (long long)i, (double)values[i], codes[i],
                     (int)code);
        /* the root and its square are rounded, and the map */
        assert_true(fabsf(most[i / MOMENT_BLOCK] - greatest[i / MOMENT_BLOCK]) <=
                    4 * 0x1p-24f * greatest[i / MOMENT_BLOCK]);
        if (!(fabsf(mine - back[i]) <= 8 * 0x1p-24f * fabsf(back[i])))
            fail_msg("%s[%lld]: %.9g, bitsandbytes reads %.9g", kind, (long long)i, (double)mine, (double)back[i]);
    }
}

static void blocks_are_quantised_alike(void **state) {
    (void)state;
    check_blocks("m", false);
    check_blocks("v", true);
}

static void assert_same_codes(const json_t *want, const uint8_t *codes, int64_t count, const char *what) {
    for (int64_t i = 0; i < count; i++) {
        int code = (int)json_integer_value(json_array_get(want, (size_t)i));
        if (code != codes[i])
            fail_msg("%s[%lld]: code %d, bitsandbytes has %d", what, (long long)i, codes[i], code);
    }
}

/* Both round otherwise here and there, but in these numbers nowhere across a border. 1 - beta2 is here that of the float next to
 * 0.999, 1.3e-5 less than there; which moves a step of 0.01 by 7e-8. */
static void check_step(const json_t *want, const struct state8 *coded, const float *w, int64_t count) {
    float weights[COUNT_MAX], greatest[COUNT_MAX];
    int step = (int)json_integer_value(of(want, "step"));
    floats(of(want, "weight"), weights);
    assert_same_codes(of(want, "m"), coded->m, count, "m");
    assert_same_codes(of(want, "v"), coded->v, count, "v");
    for (int kind = 0; kind < 2; kind++) {
        const float *most = kind ? coded->v_most : coded->m_most;
        int64_t blocks = floats(of(want, kind ? "v_absmax" : "m_absmax"), greatest);
        assert_int_equal(blocks, moment_blocks(count));
        for (int64_t b = 0; b < blocks; b++)
            assert_true(fabsf(most[b] - greatest[b]) <= 1.5e-5f * greatest[b]);
    }
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(w[i] - weights[i]) <= (float)step * (8e-8f + 1.2e-7f * fabsf(weights[i]))))
            fail_msg("weight %lld after step %d: %.9g, bitsandbytes has %.9g", (long long)i, step, (double)w[i],
                     (double)weights[i]);
}

static void steps_are_those_of_adamw8bit(void **state) {
    (void)state;
    const json_t *adamw = of(golden, "adamw"), *betas = of(adamw, "betas"), *steps = of(adamw, "steps");
    float w[COUNT_MAX], g[COUNT_MAX];
    int64_t count = floats(of(adamw, "start"), w);
    double beta1 = json_number_value(json_array_get(betas, 0)), beta2 = json_number_value(json_array_get(betas, 1));
    double power1 = 1, power2 = 1;
    static struct state8 coded;
    memset(&coded, 0, sizeof coded);
    struct moments8 moments = moments_of(&coded);
    size_t kept = 0;
    for (size_t s = 0; s < json_array_size(of(adamw, "gradients")); s++) {
        power1 *= beta1;
        power2 *= beta2;
        struct adamw_step step = {.lr = real(adamw, "lr"),
                                  .beta1 = (float)beta1,
                                  .beta2 = (float)beta2,
                                  .eps = real(adamw, "eps"),
                                  .bias1 = (float)(1 - power1),
                                  .bias2 = (float)(1 - power2),
                                  .grad_scale = 1.0f};
        floats(json_array_get(of(adamw, "gradients"), s), g);
        device->ops->decay(device, w, DTYPE_F32, NULL, count, 1.0f - step.lr * real(adamw, "weight_decay"));
        device->ops->adamw8(device, w, DTYPE_F32, NULL, &moments, g, count, &step);
        const json_t *want = json_array_get(steps, kept);
        if (want && json_integer_value(of(want, "step")) == (json_int_t)s + 1) {
            check_step(want, &coded, w, count);
            kept++;
        }
    }
    assert_int_equal(kept, 2);
}

int main(void) {
    if (json_read_file(SOURCE_DIR "/tests/golden/compute/moments.json", 1 << 20, &golden) != STATUS_OK ||
        cpu_open(NULL, 1, &device) != STATUS_OK) {
        printf("%s\n", status_message());
        return 1;
    }
    moment_tables_fill(&tables);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_maps_of_codes_are_equal),
        cmocka_unit_test(blocks_are_quantised_alike),
        cmocka_unit_test(steps_are_those_of_adamw8bit),
    };
    int failed = cmocka_run_group_tests_name("moments", tests, NULL, NULL);
    device_close(&device);
    json_decref(golden);
    return failed;
}
