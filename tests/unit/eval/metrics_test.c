#include "tests/support/test.h"

#include <math.h>
#include <unistd.h>

#include "common/base/rng.h"
#include "common/eval/krb.h"

static void add(struct outcome_file *file, const char *id, const char *set, uint32_t correct, uint32_t abstain,
                uint32_t wrong) {
    uint32_t counts[VERDICT_COUNT] = {
        [VERDICT_CORRECT] = correct, [VERDICT_ABSTAIN] = abstain, [VERDICT_WRONG] = wrong};
    assert_int_equal(outcome_add(file, id, set, "", "", "Who ?", counts, NULL, 0), STATUS_OK);
}

static struct outcome_file *create(const char *kind, uint32_t samples) {
    struct outcome_file *file = NULL;
    assert_int_equal(outcome_file_create(kind, samples, 1, "Answer", &file), STATUS_OK);
    return file;
}

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.6f is not %.6f +- %.6f", value, expected, tolerance);
}

static void the_five_shares_sum_to_100(void **state) {
    (void)state;
    struct outcome_file *file = create("eval", 4);
    add(file, "a", "s", 4, 0, 0);
    add(file, "b", "s", 1, 3, 0);
    add(file, "c", "s", 0, 2, 2);
    add(file, "d", "s", 0, 4, 0);
    add(file, "e", "s", 0, 0, 4);
    add(file, "f", "other", 0, 0, 4);
    struct decomposition d = outcome_decomposition(file, &(struct outcome_filter){.set = "s"});
    assert_int_equal(d.questions, 5);
    near(d.all_correct, 20, 1e-12);
    near(d.partial_correct, 20, 1e-12);
    near(d.partial_not_attempted, 20, 1e-12);
    near(d.all_not_attempted, 20, 1e-12);
    near(d.all_wrong, 20, 1e-12);
    outcome_file_destroy(&file);
}

static void malformed_and_process_correct_count_as_wrong(void **state) {
    (void)state;
    struct outcome_file *file = create("eval", 4);
    uint32_t counts[VERDICT_COUNT] = {1, 1, 1, 0, 1};
    assert_int_equal(outcome_add(file, "a", "s", "", "", "q", counts, NULL, 0), STATUS_OK);
    struct shares shares = outcome_shares(file, NULL);
    near(shares.correct, .25, 1e-12);
    near(shares.abstain, .25, 1e-12);
    near(shares.wrong, .5, 1e-12);
    struct metrics m = shares_metrics(shares);
    near(m.correct_given_attempted, 1.0 / 3, 1e-12);
    near(m.f, .5 / 1.75, 1e-12);
    near(m.truthfulness, -.25, 1e-12);
    near(m.penalised, .25 - 1.5, 1e-12);
    outcome_file_destroy(&file);
}

static void an_outcome_file_reads_back_byte_for_byte(void **state) {
    (void)state;
    char path[] = "/tmp/candor-outcome-XXXXXX";
    assert_true(close(mkstemp(path)) == 0);
    struct outcome_file *file = create("eval", 3);
    file->version = 7;
    file->weights = (struct digest){1, 2};
    const char *answers[] = {"quote \" and \n line", "boxed[Praha \xc5\x99]"};
    uint32_t counts[VERDICT_COUNT] = {1, 0, 2, 0, 0};
    assert_int_equal(outcome_add(file, "x", "popqa", "always", "train", "Who ?", counts, answers, 2), STATUS_OK);
    assert_int_equal(outcome_file_write(file, path), STATUS_OK);
    struct outcome_file *back = NULL;
    assert_int_equal(outcome_file_read(path, &back), STATUS_OK);
    assert_int_equal(back->version, 7);
    assert_true(digest_equal(back->weights, file->weights));
    const struct outcome *outcome = outcome_find(back, "popqa", "x");
    assert_non_null(outcome);
    assert_string_equal(outcome->answers[0], answers[0]);
    assert_string_equal(outcome->answers[1], answers[1]);
    assert_null(outcome_find(back, "popqa", "y"));
    assert_null(outcome_find(back, "nq", "x"));
    outcome_file_destroy(&back);
    outcome_file_destroy(&file);

    FILE *broken = fopen(path, "w");
    fputs("{\"candor\":\"outcomes\",\"kind\":\"eval\",\"version\":1,\"weights\":\"00000000000000000000000000000000\","
          "\"samples\":3,\"seed\":1,\"prompt\":\"\"}\n{\"id\":\"a\",\"set\":\"\",\"class\":\"\",\"split\":\"\","
          "\"question\":"
          "\"\",\"n\":3,\"correct\":3,\"process\":1,\"abstain\":0,\"wrong\":0,\"malformed\":0}\n",
          broken);
    fclose(broken);
    assert_int_equal(outcome_file_read(path, &back), STATUS_FORMAT);
    assert_non_null(strstr(status_message(), ":2: the counts sum to 4, n is 3"));
    unlink(path);
}

/* ---- policies whose balance is known (factuality.md 2.2) ---- */

#define QUESTIONS 3000
#define N 20

struct population {
    struct outcome_file *knowledge, *base, *same, *silent, *blind, *inverted, *selective;
};

static uint32_t binomial(uint32_t question, uint16_t batch, uint32_t n, double p) {
    struct rng_key key = {.seed = 5, .slot = question, .sample = batch, .stream = RNG_TEST};
    uint32_t hits = 0;
    for (uint32_t i = 0; i < n; i++)
        hits += rng_uniform(&key, i) < p;
    return hits;
}

/* p: 30 % near 1, 30 % uniform, 40 % near 0. */
static double knowledge_of(uint32_t question) {
    struct rng_key key = {.seed = 6, .slot = question, .stream = RNG_TEST};
    double u = rng_uniform(&key, 0);
    return question % 10 < 3 ? pow(u, 1.0 / 8) : question % 10 < 6 ? u : pow(u, 8);
}

static void add_policy(struct outcome_file *file, const char *id, uint32_t question, uint16_t batch, double p,
                       double attempts) {
    uint32_t attempted = binomial(question, (uint16_t)(batch + 100), N, attempts);
    uint32_t correct = binomial(question, batch, attempted, p);
    add(file, id, "s", correct, N - attempted, attempted - correct);
}

static struct population *populate(void) {
    static struct population all;
    all = (struct population){create("knowledge", 16), create("base", N), create("eval", N), create("eval", N),
                              create("eval", N),       create("eval", N), create("eval", N)};
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        char id[16];
        snprintf(id, sizeof id, "q%u", i);
        double p = knowledge_of(i);
        uint32_t k = binomial(i, 0, 16, p);
        add(all.knowledge, id, "s", k, 0, 16 - k);
        add_policy(all.base, id, i, 1, p, 1);
        add_policy(all.same, id, i, 2, p, 1);
        add_policy(all.silent, id, i, 3, p, 0);
        add_policy(all.blind, id, i, 4, p, .5);
        add_policy(all.inverted, id, i, 5, p, p < .5);
        add_policy(all.selective, id, i, 6, p, p >= .5);
    }
    return &all;
}

static struct krb balance(struct population *all, const struct outcome_file *policy) {
    struct krb krb;
    assert_int_equal(krb_compute(all->knowledge, all->base, policy, NULL, 1, 200, &krb), STATUS_OK);
    assert_int_equal(krb.questions, QUESTIONS);
    assert_true(krb.krb.low < krb.krb.value && krb.krb.value < krb.krb.high);
    return krb;
}

/* Tolerance .04: three standard deviations of the balance at 3,000 questions (half-width at 500 is .04, so .016 here).
 */
static void abstention_blind_to_knowledge_scores_zero(void **state) {
    struct population *all = *state;
    near(balance(all, all->same).krb.value, 0, .04);
    near(balance(all, all->blind).krb.value, 0, .04);
    uint32_t draws = 50;
    struct krb silent;
    assert_int_equal(krb_compute(all->knowledge, all->base, all->silent, NULL, 1, draws, &silent), STATUS_OK);
    near(silent.krb.value, 0, 1e-12);
    near(silent.s.value, 1, 1e-12);
}

static void abstaining_where_the_base_does_not_know_reaches_the_best_abstention(void **state) {
    struct population *all = *state;
    struct krb krb = balance(all, all->selective);
    assert_true(krb.krb.value > .8);
    near(krb.krb.value, krb.best_abstention, .05);
    assert_true(balance(all, all->inverted).krb.value < -.8);
}

static void the_interval_is_a_pure_function_of_the_seed(void **state) {
    struct population *all = *state;
    struct krb a = balance(all, all->selective), b = balance(all, all->selective), c;
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(krb_compute(all->knowledge, all->base, all->selective, NULL, 2, 200, &c), STATUS_OK);
    assert_true(c.krb.low != a.krb.low);
}

static void a_paired_difference_sees_what_two_intervals_do_not(void **state) {
    struct population *all = *state;
    struct interval difference;
    assert_int_equal(krb_compare(all->knowledge, all->base, all->same, all->selective, NULL, 1, 200, &difference),
                     STATUS_OK);
    near(difference.value, balance(all, all->selective).krb.value - balance(all, all->same).krb.value, 1e-9);
    assert_true(difference.low > .5);
    assert_int_equal(krb_compare(all->knowledge, all->base, all->same, all->same, NULL, 1, 50, &difference), STATUS_OK);
    near(difference.value, 0, 1e-12);
}

static void an_undefined_balance_says_why(void **state) {
    (void)state;
    struct outcome_file *knowledge = create("knowledge", 16), *base = create("base", N), *policy = create("eval", N);
    add(knowledge, "a", "s", 16, 0, 0);
    add(base, "a", "s", N, 0, 0);
    struct krb krb;
    assert_int_equal(krb_compute(knowledge, base, policy, NULL, 1, 10, &krb), STATUS_MISMATCH);
    add(policy, "a", "s", N, 0, 0);
    assert_int_equal(krb_compute(knowledge, base, policy, NULL, 1, 10, &krb), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "never wrong"));
    outcome_file_destroy(&knowledge);
    outcome_file_destroy(&base);
    outcome_file_destroy(&policy);
}

static int set_up(void **state) {
    *state = populate();
    return 0;
}

static int tear_down(void **state) {
    struct population *all = *state;
    struct outcome_file **files[] = {&all->knowledge, &all->base,     &all->same,     &all->silent,
                                     &all->blind,     &all->inverted, &all->selective};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        outcome_file_destroy(files[i]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_five_shares_sum_to_100),
        cmocka_unit_test(malformed_and_process_correct_count_as_wrong),
        cmocka_unit_test(an_outcome_file_reads_back_byte_for_byte),
        cmocka_unit_test(abstention_blind_to_knowledge_scores_zero),
        cmocka_unit_test(abstaining_where_the_base_does_not_know_reaches_the_best_abstention),
        cmocka_unit_test(the_interval_is_a_pure_function_of_the_seed),
        cmocka_unit_test(a_paired_difference_sees_what_two_intervals_do_not),
        cmocka_unit_test(an_undefined_balance_says_why),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
