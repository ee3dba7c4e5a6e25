/* Log-probabilities and sampling. */
#include "tests/support/compute/fixture.h"

#include <math.h>
#include <string.h>

#define EACH_DEVICE(d) for (int d = 0; d < device_count; d++)

static float *logits_for(int64_t count, float spread) {
    float *x = random_floats(count);
    for (int64_t i = 0; i < count; i++)
        x[i] *= spread;
    return x;
}

struct answers {
    double lp, entropy, lse;
};

static struct answers reference(const float *logits, int32_t valid, int32_t target, double inv_temperature) {
    double most = -INFINITY, total = 0, weighted = 0;
    for (int32_t i = 0; i < valid; i++)
        most = fmax(most, logits[i] * inv_temperature);
    for (int32_t i = 0; i < valid; i++) {
        double d = logits[i] * inv_temperature - most;
        total += exp(d);
        weighted += exp(d) * d;
    }
    double lse = most + log(total);
    return (struct answers){logits[target] * inv_temperature - lse, log(total) - weighted / total, lse};
}

static void logprob_is_near_the_reference_and_alike_on_every_path(void **state) {
    (void)state;
    static const int32_t vs[][2] = {{1, 1}, {7, 5}, {200, 197}, {512, 512}, {513, 513}, {5000, 4991}};
    for (size_t s = 0; s < sizeof vs / sizeof vs[0]; s++)
        for (float inv_temperature = 0.5f; inv_temperature <= 2.0f; inv_temperature *= 2) {
            enum { R = 5 };
            int32_t V = vs[s][0], valid = vs[s][1], targets[R];
            float *logits = logits_for(R * V, 20.0f), lp[R], lse[R], entropy[R], first[3][R];
            for (int r = 0; r < R; r++)
                targets[r] = random_below(valid);
            EACH_DEVICE(d) {
                devices[d]->ops->logprob_forward(devices[d], lp, lse, entropy, logits, targets, R, V, valid,
                                                 inv_temperature);
                for (int r = 0; r < R; r++) {
                    struct answers want =
                        reference(logits + (int64_t)r * V, valid, targets[r], (double)inv_temperature);
                    assert_close(&lp[r], &want.lp, 1, 1e-6, 4, "lp");
                    assert_close(&lse[r], &want.lse, 1, 1e-6, 1, "lse");
                    assert_close(&entropy[r], &want.entropy, 1, 2e-6, 1, "entropy");
                }
                if (d == 0) {
                    memcpy(first[0], lp, sizeof lp);
                    memcpy(first[1], lse, sizeof lp);
                    memcpy(first[2], entropy, sizeof lp);
                }
                assert_same_bits(lp, first[0], R, "lp");
                assert_same_bits(lse, first[1], R, "lse");
                assert_same_bits(entropy, first[2], R, "entropy");
                float plain[R];
                devices[d]->ops->logprob_forward(devices[d], plain, lse, NULL, logits, targets, R, V, valid,
                                                 inv_temperature);
                assert_same_bits(plain, lp, R, "lp without entropy");
            }
        }
}

/* ids from valid on hold zeros, then what must not be read: same bits everywhere. */
static void masked_ids_do_not_exist(void **state) {
    (void)state;
    static const float poison[] = {200.0f, -200.0f, INFINITY, -INFINITY, NAN};
    enum { R = 3, V = 600, VALID = 587 };
    float *zeros = logits_for(R * V, 5.0f), lp[R], lse[R], entropy[R], uniforms[R], dlp[R] = {1.5f, -0.25f, 0.125f};
    int32_t targets[R], ids[R];
    for (int r = 0; r < R; r++) {
        memset(zeros + r * V + VALID, 0, (V - VALID) * sizeof(float));
        targets[r] = random_below(VALID);
        uniforms[r] = random_uniform();
    }
    EACH_DEVICE(d) {
        const struct ops *ops = devices[d]->ops;
        float *dzeros = floats(R * V), sampled_lp[R];
        ops->logprob_forward(devices[d], lp, lse, entropy, zeros, targets, R, V, VALID, 0.7f);
        ops->logprob_backward(devices[d], dzeros, zeros, lse, dlp, targets, R, V, VALID, 0.7f);
        ops->sample(devices[d], ids, sampled_lp, zeros, NULL, uniforms, R, V, VALID, 0.7f, 0, 1.0f);
        for (int r = 0; r < R; r++)
            for (int i = VALID; i < V; i++)
                assert_true(dzeros[r * V + i] == 0.0f);
        for (size_t p = 0; p < sizeof poison / sizeof poison[0]; p++) {
            float *logits = copy_floats(zeros, R * V), *dlogits = floats(R * V), lp2[R], lse2[R], entropy2[R];
            int32_t ids2[R];
            for (int r = 0; r < R; r++)
                for (int i = VALID; i < V; i++)
                    logits[r * V + i] = poison[p];
            ops->logprob_forward(devices[d], lp2, lse2, entropy2, logits, targets, R, V, VALID, 0.7f);
            assert_same_bits(lp2, lp, R, "lp");
            assert_same_bits(lse2, lse, R, "lse");
            assert_same_bits(entropy2, entropy, R, "entropy");
            ops->logprob_backward(devices[d], dlogits, logits, lse, dlp, targets, R, V, VALID, 0.7f);
            assert_same_bits(dlogits, dzeros, R * V, "dlogits");
            ops->sample(devices[d], ids2, lp2, logits, NULL, uniforms, R, V, VALID, 0.7f, 0, 1.0f);
            assert_memory_equal(ids, ids2, sizeof ids);
            assert_same_bits(lp2, sampled_lp, R, "sampled lp");
            ops->sample(devices[d], ids2, lp2, logits, NULL, uniforms, R, V, VALID, 0.7f, 40, 0.8f);
            for (int r = 0; r < R; r++)
                assert_in_range(ids2[r], 0, VALID - 1);
        }
    }
}

static void logprob_backward_is_onehot_minus_p(void **state) {
    (void)state;
    enum { R = 4, V = 530, VALID = 521 };
    float *logits = logits_for(R * V, 4.0f), lp[R], lse[R], dlp[R] = {1.0f, -2.0f, 0.0f, 1e-3f};
    int32_t targets[R] = {0, 17, 520, 519};
    float *first = NULL;
    EACH_DEVICE(d) {
        float *dlogits = copy_floats(logits, R * V);
        double *want = bytes_of(R * V * sizeof *want);
        devices[d]->ops->logprob_forward(devices[d], lp, lse, NULL, logits, targets, R, V, VALID, 0.8f);
        devices[d]->ops->logprob_backward(devices[d], dlogits, dlogits, lse, dlp, targets, R, V, VALID, 0.8f);
        for (int r = 0; r < R; r++) {
            double norm = reference(logits + r * V, VALID, targets[r], (double)0.8f).lse;
            for (int i = 0; i < VALID; i++)
                want[r * V + i] = (double)dlp[r] * (double)0.8f *
                                  ((i == targets[r]) - exp((double)logits[r * V + i] * (double)0.8f - norm));
        }
        assert_close(dlogits, want, R * V, 2e-6, 1e-2, "dlogits");
        first = first == NULL ? dlogits : first;
        assert_same_bits(dlogits, first, R * V, devices[d]->name);
    }
}

static void a_row_without_weight_gives_exactly_nothing(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    enum { V = 40 };
    for (int b = 0; b < (int)(sizeof bad / sizeof bad[0]); b++)
        EACH_DEVICE(d) {
            float *logits = floats(V), lse = bad[b], dlp = 0.0f;
            int32_t target = 3;
            for (int i = 0; i < V; i++)
                logits[i] = bad[b];
            devices[d]->ops->logprob_backward(devices[d], logits, logits, &lse, &dlp, &target, 1, V, V, 1.0f);
            for (int i = 0; i < V; i++)
                assert_true(bits_of_f32(logits[i]) == 0);
        }
}

static void a_sampled_lp_has_the_bits_of_logprob_forward(void **state) {
    (void)state;
    enum { R = 64, V = 3000 };
    float *logits = logits_for(R * V, 8.0f), *lp = floats(R), *again = floats(R), *lse = floats(R), uniforms[R];
    int32_t ids[R], first[R];
    for (int r = 0; r < R; r++)
        uniforms[r] = random_uniform();
    EACH_DEVICE(d)
    for (int filter = 0; filter < 4; filter++) {
        const struct ops *ops = devices[d]->ops;
        ops->sample(devices[d], ids, lp, logits, NULL, uniforms, R, V, V - 3, 0.9f, filter & 1 ? 50 : 0,
                    filter & 2 ? 0.9f : 1.0f);
        ops->logprob_forward(devices[d], again, lse, NULL, logits, ids, R, V, V - 3, 0.9f);
        assert_same_bits(again, lp, R, "lp");
        if (filter == 0) {
            if (d == 0)
                memcpy(first, ids, sizeof ids);
            assert_memory_equal(first, ids, sizeof ids);
        }
    }
}

static void draws_from_shared_rows_are_those_from_rows_of_their_own(void **state) {
    (void)state;
    enum { R = 5, V = 900, DRAWS = 50 };
    float *logits = logits_for(R * V, 5.0f), *spread = floats(DRAWS * V), uniforms[DRAWS], lp[DRAWS], lp2[DRAWS];
    int32_t rows[DRAWS], ids[DRAWS], ids2[DRAWS];
    for (int i = 0; i < DRAWS; i++) {
        rows[i] = i < 20 ? 2 : random_below(R);
        uniforms[i] = random_uniform();
        memcpy(spread + i * V, logits + rows[i] * V, V * sizeof(float));
    }
    EACH_DEVICE(d)
    for (int filter = 0; filter < 2; filter++) {
        const struct ops *ops = devices[d]->ops;
        ops->sample(devices[d], ids, lp, logits, rows, uniforms, DRAWS, V, V, 1.1f, 0, filter ? 0.9f : 1.0f);
        ops->sample(devices[d], ids2, lp2, spread, NULL, uniforms, DRAWS, V, V, 1.1f, 0, filter ? 0.9f : 1.0f);
        assert_memory_equal(ids, ids2, sizeof ids);
        assert_same_bits(lp, lp2, DRAWS, "lp");
    }
}

static void greedy_takes_the_lowest_of_the_greatest(void **state) {
    (void)state;
    enum { V = 1100 };
    float *logits = logits_for(V, 1.0f), lp, again, lse, uniform = 0.5f;
    int32_t id;
    logits[1030] = logits[700] = logits[33] = 9.0f;
    logits[1099] = 100.0f; /* masked */
    EACH_DEVICE(d) {
        devices[d]->ops->sample(devices[d], &id, &lp, logits, NULL, &uniform, 1, V, V - 1, 0.0f, 0, 1.0f);
        assert_int_equal(id, 33);
        devices[d]->ops->logprob_forward(devices[d], &again, &lse, NULL, logits, &id, 1, V, V - 1, 1.0f);
        assert_same_bits(&lp, &again, 1, "greedy lp");
    }
}

/* An even grid of uniforms must hit each id in proportion to its probability, give or take one grid step. */
static void the_uniform_is_turned_into_the_inverse_cdf(void **state) {
    (void)state;
    enum { V = 1300, GRID = 4096 };
    float *logits = logits_for(V, 6.0f), lp;
    logits[5] = -INFINITY;
    int32_t *hits = bytes_of(V * sizeof *hits), id, before = 0;
    for (int g = 0; g < GRID; g++) {
        float uniform = ((float)g + 0.5f) / GRID;
        devices[0]->ops->sample(devices[0], &id, &lp, logits, NULL, &uniform, 1, V, V, 1.0f, 0, 1.0f);
        assert_true(id >= before);
        before = id;
        hits[id]++;
    }
    assert_int_equal(hits[5], 0);
    for (int i = 0; i < V; i++) {
        double p = exp(reference(logits, V, i, 1.0).lp);
        if (fabs(hits[i] - p * GRID) > 1.01)
            fail_msg("id %d: %d hits, probability %.3g asks for %.3g", i, hits[i], p, p * GRID);
    }
}

static void the_ends_of_the_uniform_stay_inside(void **state) {
    (void)state;
    enum { V = 700 };
    float *logits = floats(V), lp, least = 0x1p-24f, most = 1.0f - 0x1p-24f;
    int32_t id;
    for (int i = 0; i < V; i++)
        logits[i] = i >= 3 && i <= 600 ? 0.0f : -INFINITY;
    EACH_DEVICE(d) {
        devices[d]->ops->sample(devices[d], &id, &lp, logits, NULL, &least, 1, V, V, 1.0f, 0, 1.0f);
        assert_int_equal(id, 3);
        devices[d]->ops->sample(devices[d], &id, &lp, logits, NULL, &most, 1, V, V, 1.0f, 0, 1.0f);
        assert_int_equal(id, 600);
        assert_true(fabs((double)lp + log(598.0)) < 1e-5);
    }
}

static void top_k_and_top_p_keep_the_likeliest(void **state) {
    (void)state;
    enum { V = 1500, GRID = 257 };
    float *logits = floats(V), lp;
    for (int i = 0; i < V; i++)
        logits[i] = -0.01f * (float)((i * 7) % V); /* a permutation: rank of id i is 7i mod V */
    EACH_DEVICE(d) {
        const struct ops *ops = devices[d]->ops;
        int32_t id, last_k = 0, last_p = 0;
        for (int g = 0; g < GRID; g++) {
            float uniform = ((float)g + 0.5f) / GRID;
            ops->sample(devices[d], &id, &lp, logits, NULL, &uniform, 1, V, V, 1.0f, 5, 1.0f);
            last_k = id * 7 % V > last_k ? id * 7 % V : last_k;
            /* mass of the first n ranks: (1 - e^-0.01n) / (1 - e^-15): 0.5 is reached at rank 70 */
            ops->sample(devices[d], &id, &lp, logits, NULL, &uniform, 1, V, V, 1.0f, 0, 0.5f);
            last_p = id * 7 % V > last_p ? id * 7 % V : last_p;
            ops->sample(devices[d], &id, &lp, logits, NULL, &uniform, 1, V, V, 1.0f, 3, 0.3f);
            assert_int_equal(id, 0); /* of three nearly equal ones the first holds 0.337 */
        }
        assert_int_equal(last_k, 4);
        assert_int_equal(last_p, 69);
    }
}

static void logits_that_are_not_finite_give_an_id_and_a_lp_that_says_so(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    enum { V = 600 };
    for (int b = 0; b < (int)(sizeof bad / sizeof bad[0]); b++)
        EACH_DEVICE(d)
    for (int filter = 0; filter < 3; filter++) {
        float *logits = floats(V), lp, uniform = 0.9f;
        int32_t id;
        for (int i = 0; i < V; i++)
            logits[i] = bad[b];
        devices[d]->ops->sample(devices[d], &id, &lp, logits, NULL, &uniform, 1, V, V, 1.0f, filter == 1 ? 9 : 0,
                                filter == 2 ? 0.5f : 1.0f);
        assert_in_range(id, 0, V - 1);
        if (isfinite(lp))
            fail_msg("lp %g of logits that are %g", (double)lp, (double)bad[b]);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, fixture_free_all)
    const struct CMUnitTest tests[] = {
        TEST(logprob_is_near_the_reference_and_alike_on_every_path),
        TEST(masked_ids_do_not_exist),
        TEST(logprob_backward_is_onehot_minus_p),
        TEST(a_row_without_weight_gives_exactly_nothing),
        TEST(a_sampled_lp_has_the_bits_of_logprob_forward),
        TEST(draws_from_shared_rows_are_those_from_rows_of_their_own),
        TEST(greedy_takes_the_lowest_of_the_greatest),
        TEST(the_uniform_is_turned_into_the_inverse_cdf),
        TEST(the_ends_of_the_uniform_stay_inside),
        TEST(top_k_and_top_p_keep_the_likeliest),
        TEST(logits_that_are_not_finite_give_an_id_and_a_lp_that_says_so),
    };
    return cmocka_run_group_tests_name("vocabulary", tests, devices_open, devices_close);
}
