/* AdamW, sum of squares and digest: CUDA's kernels under the emulator against the CPU's. */
#include "common/compute/moments.h"
#include "tests/twin/compute/twin.h"

static const struct adamw_step step = {
    .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .bias1 = 0.271f, .bias2 = 0.002997f, .grad_scale = 0.5f};

static const int64_t counts[] = {1, 255, 256, 1000};

/* Correctly rounded operations in one order: equal bits, in both storages. */
static void decay_and_adamw_have_the_same_bits(void **state) {
    (void)state;
    for (int c = 0; c < 4; c++) {
        int64_t count = counts[c];
        size_t bytes = (size_t)count * sizeof(float);
        float *g = random_floats(count), *w = random_floats(count), *m = random_floats(count),
              *v = random_floats(count);
        for (int64_t i = 0; i < count; i++)
            v[i] = v[i] * v[i];
        uint16_t *w16 = to_bf16(w, count), *rem = bytes_of((size_t)count * 2);
        for (int64_t i = 0; i < count; i++)
            rem[i] = (uint16_t)random_below(65536);
        void *d_w = device_floats(w, count), *d_w16 = device_bytes(w16, (size_t)count * 2);
        uint16_t *d_rem = device_bytes(rem, (size_t)count * 2);
        float *d_m = device_floats(m, count), *d_v = device_floats(v, count), *d_g = device_floats(g, count);
        float *m2 = copy_floats(m, count), *v2 = copy_floats(v, count);
        float *d_m2 = device_floats(m, count), *d_v2 = device_floats(v, count);
        for (int i = 0; i < 2; i++) {
            cpu->ops->decay(cpu, w, DTYPE_F32, NULL, count, 0.99f);
            cuda->ops->decay(cuda, d_w, DTYPE_F32, NULL, count, 0.99f);
            cpu->ops->decay(cpu, w16, DTYPE_BF16, rem, count, 0.99f);
            cuda->ops->decay(cuda, d_w16, DTYPE_BF16, d_rem, count, 0.99f);
            cpu->ops->adamw(cpu, w, DTYPE_F32, NULL, m, v, g, count, &step);
            cuda->ops->adamw(cuda, d_w, DTYPE_F32, NULL, d_m, d_v, d_g, count, &step);
            cpu->ops->adamw(cpu, w16, DTYPE_BF16, rem, m2, v2, g, count, &step);
            cuda->ops->adamw(cuda, d_w16, DTYPE_BF16, d_rem, d_m2, d_v2, d_g, count, &step);
        }
        assert_same_bits(host_of_floats(d_w, count), w, count, "fp32 masters");
        assert_memory_equal(host_of_bytes(d_w16, (size_t)count * 2), w16, (size_t)count * 2);
        assert_memory_equal(host_of_bytes(d_rem, (size_t)count * 2), rem, (size_t)count * 2);
        assert_memory_equal(host_of_bytes(d_m, bytes), m, bytes);
        assert_memory_equal(host_of_bytes(d_v, bytes), v, bytes);
        assert_memory_equal(host_of_bytes(d_m2, bytes), m2, bytes);
        assert_memory_equal(host_of_bytes(d_v2, bytes), v2, bytes);
        twin_free_all(NULL);
    }
}

/* The same operations, and tables that the host made for both: equal codes and weights. Counts of a part of a block, one
 * whole, and of more blocks than a CUDA block has warps, and than it takes in all its rounds; gradients of all sizes. */
static void adamw8_has_the_same_bits(void **state) {
    (void)state;
    static const int64_t coded_counts[] = {1, 255, 256, 3000, 8 * 32 * MOMENT_BLOCK + 300};
    for (int c = 0; c < 5; c++) {
        int64_t count = coded_counts[c];
        size_t bytes = (size_t)count, most_bytes = (size_t)moment_blocks(count) * sizeof(float);
        float *g = random_floats(count), *w = random_floats(count);
        for (int64_t i = 0; i < count; i++)
            g[i] = i % 7 == 3 ? 0.0f : g[i] * powf(10.0f, -6.0f * random_uniform());
        uint16_t *w16 = to_bf16(w, count), *rem = bytes_of(bytes * 2), *d_rem = device_bytes(rem, bytes * 2);
        void *d_w = device_floats(w, count), *d_w16 = device_bytes(w16, bytes * 2);
        struct moments8 host[2], device[2];
        for (int i = 0; i < 2; i++) {
            host[i] = (struct moments8){bytes_of(bytes), bytes_of(bytes), bytes_of(most_bytes), bytes_of(most_bytes)};
            device[i] =
                (struct moments8){device_bytes(host[i].m, bytes), device_bytes(host[i].v, bytes),
                                  device_bytes(host[i].m_most, most_bytes), device_bytes(host[i].v_most, most_bytes)};
        }
        float *d_g = device_floats(g, count);
        for (int s = 0; s < 3; s++) {
            cpu->ops->adamw8(cpu, w, DTYPE_F32, NULL, &host[0], g, count, &step);
            cuda->ops->adamw8(cuda, d_w, DTYPE_F32, NULL, &device[0], d_g, count, &step);
            cpu->ops->adamw8(cpu, w16, DTYPE_BF16, rem, &host[1], g, count, &step);
            cuda->ops->adamw8(cuda, d_w16, DTYPE_BF16, d_rem, &device[1], d_g, count, &step);
        }
        assert_same_bits(host_of_floats(d_w, count), w, count, "fp32 masters");
        assert_memory_equal(host_of_bytes(d_w16, bytes * 2), w16, bytes * 2);
        assert_memory_equal(host_of_bytes(d_rem, bytes * 2), rem, bytes * 2);
        for (int i = 0; i < 2; i++) {
            assert_memory_equal(host_of_bytes(device[i].m, bytes), host[i].m, bytes);
            assert_memory_equal(host_of_bytes(device[i].v, bytes), host[i].v, bytes);
            assert_memory_equal(host_of_bytes(device[i].m_most, most_bytes), host[i].m_most, most_bytes);
            assert_memory_equal(host_of_bytes(device[i].v_most, most_bytes), host[i].v_most, most_bytes);
        }
        twin_free_all(NULL);
    }
}

/* Numbers that lie on a border between two codes, and a gradient whose square is no float. */
static void adamw8_has_the_same_bits_at_borders(void **state) {
    (void)state;
    static const struct adamw_step store = {0.0f, 0.0f, 0.0f, 1e-8f, 1.0f, 1.0f, 1.0f}; /* m = g, v = g^2 */
    struct moment_tables tables;
    moment_tables_fill(&tables);
    float g[3 * MOMENT_BLOCK], *w = floats(3 * MOMENT_BLOCK);
    for (int i = 0; i < MOMENT_BLOCK; i++) {
        g[i] = tables.m.border[i];
        g[MOMENT_BLOCK + i] = -tables.m.border[i];
        g[2 * MOMENT_BLOCK + i] = i == 9 ? -3e38f : g[i];
    }
    uint8_t codes[2][3 * MOMENT_BLOCK] = {{0}};
    float most[2][3] = {{0}};
    struct moments8 host = {codes[0], codes[1], most[0], most[1]},
                    device = {device_bytes(codes[0], sizeof codes[0]), device_bytes(codes[1], sizeof codes[1]),
                              device_bytes(most[0], sizeof most[0]), device_bytes(most[1], sizeof most[1])};
    cuda->ops->adamw8(cuda, device_floats(w, 3 * MOMENT_BLOCK), DTYPE_F32, NULL, &device,
                      device_floats(g, 3 * MOMENT_BLOCK), 3 * MOMENT_BLOCK, &store);
    cpu->ops->adamw8(cpu, w, DTYPE_F32, NULL, &host, g, 3 * MOMENT_BLOCK, &store);
    assert_memory_equal(host_of_bytes(device.m, sizeof codes[0]), codes[0], sizeof codes[0]);
    assert_memory_equal(host_of_bytes(device.v, sizeof codes[1]), codes[1], sizeof codes[1]);
    assert_memory_equal(host_of_bytes(device.m_most, sizeof most[0]), most[0], sizeof most[0]);
    assert_memory_equal(host_of_bytes(device.v_most, sizeof most[1]), most[1], sizeof most[1]);
}

/* Products of floats are exact in double; 40000 sums of doubles in two orders differ by less than 40000 2^-53. */
static void sum_of_squares_agrees(void **state) {
    (void)state;
    static const int64_t lengths[] = {0, 1, 31, 16384, 16385, 40000};
    for (int i = 0; i < 6; i++) {
        float *g = random_floats(lengths[i]), *d_g = device_floats(g, lengths[i]);
        double want = -1, got = -1;
        cpu->ops->sum_squares(cpu, &want, g, lengths[i]);
        EACH_ORDER(o) {
            double again = -1;
            cuda->ops->sum_squares(cuda, &again, d_g, lengths[i]);
            assert_true(fabs(again - want) <= 1e-11 * want);
            assert_true(o == 0 || again == got);
            got = again;
        }
    }
    float bad[40] = {[7] = INFINITY};
    double got = 0;
    cuda->ops->sum_squares(cuda, &got, device_floats(bad, 40), 40);
    assert_true(isinf(got));
    bad[7] = NAN;
    cuda->ops->sum_squares(cuda, &got, device_floats(bad, 40), 40);
    assert_true(isnan(got));
}

static void digest_is_equal(void **state) {
    (void)state;
    static const int64_t lengths[] = {0, 1, 3, 64, 1023, 5000};
    for (int i = 0; i < 6; i++)
        for (int64_t first = 0; first < 4; first += 3) {
            float *w = random_floats(lengths[i]);
            uint16_t *w16 = to_bf16(w, lengths[i]);
            struct digest want, got;
            cpu->ops->digest(cpu, &want, w, DTYPE_F32, first, lengths[i]);
            cuda->ops->digest(cuda, &got, device_floats(w, lengths[i]), DTYPE_F32, first, lengths[i]);
            assert_true(digest_equal(got, want));
            cpu->ops->digest(cpu, &want, w16, DTYPE_BF16, first, lengths[i]);
            EACH_ORDER(o) {
                cuda->ops->digest(cuda, &got, device_bf16(w, lengths[i]), DTYPE_BF16, first, lengths[i]);
                assert_true(digest_equal(got, want));
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(decay_and_adamw_have_the_same_bits, twin_free_all),
        cmocka_unit_test_teardown(adamw8_has_the_same_bits, twin_free_all),
        cmocka_unit_test_teardown(adamw8_has_the_same_bits_at_borders, twin_free_all),
        cmocka_unit_test_teardown(sum_of_squares_agrees, twin_free_all),
        cmocka_unit_test_teardown(digest_is_equal, twin_free_all),
    };
    return cmocka_run_group_tests_name("optimizer", tests, twins_open, twins_close);
}
