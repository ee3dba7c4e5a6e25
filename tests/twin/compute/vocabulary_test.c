/* Log-probabilities and sampling: CUDA's kernels under the emulator against the CPU's, on the same fp32 logits. */
#include "tests/twin/compute/twin.h"

struct size {
    int32_t R, V, valid;
};

static const struct size sizes[] = {{3, 1, 1},     {5, 33, 30},     {4, 512, 512},
                                    {3, 520, 513}, {2, 1600, 1500}, {2, 17000, 16999}};
#define EACH_SIZE(s) for (const struct size *s = sizes; s < sizes + sizeof sizes / sizeof *sizes; s++)

/* Logits up to 8; garbage where no id is valid. */
static float *some_logits(const struct size *s) {
    float *logits = random_floats((int64_t)s->R * s->V);
    for (int64_t i = 0; i < (int64_t)s->R * s->V; i++)
        logits[i] = i % s->V < s->valid ? 8 * logits[i] : i % 2 ? 1e30f : NAN;
    return logits;
}

/* fp32 sums of at most 17000 positive terms in two orders; lse is about 10. */
static void logprob_agrees(void **state) {
    (void)state;
    EACH_SIZE(s) {
        float *logits = some_logits(s), *lp = floats(s->R), *lse = floats(s->R), *entropy = floats(s->R);
        float *dlp = random_floats(s->R), *d = floats((int64_t)s->R * s->V);
        int32_t *targets = bytes_of((size_t)s->R * 4);
        for (int r = 0; r < s->R; r++)
            targets[r] = random_below(s->valid);
        cpu->ops->logprob_forward(cpu, lp, lse, entropy, logits, targets, s->R, s->V, s->valid, 1.25f);
        cpu->ops->logprob_backward(cpu, d, logits, lse, dlp, targets, s->R, s->V, s->valid, 1.25f);
        EACH_ORDER(o) {
            float *d_logits = device_floats(logits, (int64_t)s->R * s->V),
                  *d_lse = device_bytes(NULL, (size_t)s->R * 4);
            float *d_lp = device_bytes(NULL, (size_t)s->R * 4), *d_entropy = device_bytes(NULL, (size_t)s->R * 4);
            int32_t *d_targets = device_ints(targets, s->R);
            void *got = device_bytes(NULL, (size_t)s->R * (size_t)s->V * 2);
            cuda->ops->logprob_forward(cuda, d_lp, d_lse, o % 2 ? NULL : d_entropy, d_logits, d_targets, s->R, s->V,
                                       s->valid, 1.25f);
            cuda->ops->logprob_backward(cuda, got, d_logits, d_lse, device_floats(dlp, s->R), d_targets, s->R, s->V,
                                        s->valid, 1.25f);
            assert_near(host_of_floats(d_lp, s->R), lp, s->R, 0, 1e-5, "lp");
            assert_near(host_of_floats(d_lse, s->R), lse, s->R, 0, 1e-5, "lse");
            if (o % 2 == 0)
                assert_near(host_of_floats(d_entropy, s->R), entropy, s->R, 0, 1e-4, "entropy");
            /* near the target 1 - p cancels; elsewhere the rounding to bf16 rules */
            assert_near(host_of_bf16(got, (int64_t)s->R * s->V), d, (int64_t)s->R * s->V, BF16_STEP, 2e-5, "dlogits");
        }
        twin_free_all(NULL);
    }
}

static void a_dead_row_gives_exactly_nothing(void **state) {
    (void)state;
    enum { V = 600 };
    float logits[V], dlp[1] = {0}, lse[1] = {NAN};
    int32_t target[1] = {3};
    for (int i = 0; i < V; i++)
        logits[i] = i % 2 ? NAN : INFINITY;
    void *got = device_bf16(rounded_floats(V), V);
    cuda->ops->logprob_backward(cuda, got, device_floats(logits, V), device_floats(lse, 1), device_floats(dlp, 1),
                                device_ints(target, 1), 1, V, V, 1.0f);
    assert_same_bits(host_of_bf16(got, V), floats(V), V, "dlogits");
}

/* The exponentials have the same bits; sums of blocks differ by 2^-22, so a draw at the border of two ids could differ: none
 * of these does. lp has the bits of logprob_forward. */
static void draws_are_those_of_the_cpu(void **state) {
    (void)state;
    enum { DRAWS = 60 };
    EACH_SIZE(s)
    for (int mode = 0; mode < 4; mode++) {
        float inv_temperature = mode == 1 ? 0.0f : 1.25f, top_p = mode == 3 ? 0.8f : 1.0f;
        int32_t top_k = mode >= 2 ? 7 : 0, rows[DRAWS], ids[DRAWS], got[DRAWS];
        float *logits = some_logits(s), uniforms[DRAWS], lp[DRAWS];
        for (int i = 0; i < DRAWS; i++) {
            rows[i] = i * s->R / DRAWS;
            uniforms[i] = random_uniform();
        }
        cpu->ops->sample(cpu, ids, lp, logits, rows, uniforms, DRAWS, s->V, s->valid, inv_temperature, top_k, top_p);
        EACH_ORDER(o) {
            int32_t *d_ids = device_bytes(NULL, sizeof got), *d_rows = device_ints(rows, DRAWS);
            float *d_lp = device_bytes(NULL, sizeof lp), *d_logits = device_floats(logits, (int64_t)s->R * s->V);
            cuda->ops->sample(cuda, d_ids, d_lp, d_logits, d_rows, device_floats(uniforms, DRAWS), DRAWS, s->V,
                              s->valid, inv_temperature, top_k, top_p);
            cuda->ops->download(cuda, got, d_ids, sizeof got);
            for (int i = 0; i < DRAWS; i++)
                if (got[i] != ids[i])
                    fail_msg("V %d, mode %d, draw %d: cuda %d, cpu %d", s->V, mode, i, got[i], ids[i]);
            float *gathered = device_bytes(NULL, (size_t)DRAWS * (size_t)s->V * 4),
                  *want = device_bytes(NULL, sizeof lp);
            for (int i = 0; i < DRAWS; i++)
                cuda->ops->copy(cuda, gathered + (int64_t)i * s->V, d_logits + (int64_t)rows[i] * s->V,
                                (size_t)s->V * 4);
            cuda->ops->logprob_forward(cuda, want, device_bytes(NULL, sizeof lp), NULL, gathered, d_ids, DRAWS, s->V,
                                       s->valid, inv_temperature == 0 ? 1.0f : inv_temperature);
            assert_same_bits(host_of_floats(d_lp, DRAWS), host_of_floats(want, DRAWS), DRAWS, "lp");
            if (s->V > 1000)
                break; /* time */
        }
        twin_free_all(NULL);
    }
}

static void greedy_takes_the_lowest_of_equals(void **state) {
    (void)state;
    enum { V = 700 };
    float logits[2 * V];
    for (int i = 0; i < 2 * V; i++)
        logits[i] = i == 77 || i == 500 || i == V + 690 || i == V + 3 ? 4.0f : 1.0f;
    int32_t *ids = device_bytes(NULL, 8);
    float *lp = device_bytes(NULL, 8), half[2] = {0.5f, 0.5f};
    EACH_ORDER(o) {
        cuda->ops->sample(cuda, ids, lp, device_floats(logits, 2 * V), NULL, device_floats(half, 2), 2, V, V, 0.0f, 0,
                          1.0f);
        const int32_t *got = host_of_bytes(ids, 8);
        assert_int_equal(got[0], 77);
        assert_int_equal(got[1], 3);
    }
}

/* Draws of equal weights come as often as they should: 3 sigma of 2000 draws among 8 ids. */
static void draws_follow_the_distribution(void **state) {
    (void)state;
    enum { V = 1100, DRAWS = 2000 };
    float *logits = floats(V);
    int32_t *rows = bytes_of(DRAWS * 4), counts[V] = {0};
    float *uniforms = floats(DRAWS);
    for (int i = 0; i < V; i++)
        logits[i] = i % 137 == 5 && i < 1097 ? 1.0f : -INFINITY; /* 8 ids in three blocks */
    for (int i = 0; i < DRAWS; i++)
        uniforms[i] = random_uniform();
    int32_t *ids = device_bytes(NULL, DRAWS * 4);
    cuda->ops->sample(cuda, ids, device_bytes(NULL, DRAWS * 4), device_floats(logits, V), device_ints(rows, DRAWS),
                      device_floats(uniforms, DRAWS), DRAWS, V, V, 1.0f, 0, 1.0f);
    const int32_t *got = host_of_bytes(ids, DRAWS * 4);
    for (int i = 0; i < DRAWS; i++)
        counts[got[i]]++;
    for (int i = 0; i < V; i++)
        assert_true(logits[i] > 0 ? abs(counts[i] - DRAWS / 8) < 3 * 15 : counts[i] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(logprob_agrees, twin_free_all),
        cmocka_unit_test_teardown(a_dead_row_gives_exactly_nothing, twin_free_all),
        cmocka_unit_test_teardown(draws_are_those_of_the_cpu, twin_free_all),
        cmocka_unit_test_teardown(greedy_takes_the_lowest_of_equals, twin_free_all),
        cmocka_unit_test_teardown(draws_follow_the_distribution, twin_free_all),
    };
    return cmocka_run_group_tests_name("vocabulary", tests, twins_open, twins_close);
}
