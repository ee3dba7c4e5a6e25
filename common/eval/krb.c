#include "common/eval/krb.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"

/* One question, in counts; shares follow by division. */
struct row {
    const char *set;
    uint32_t index; /* place in the policy's file: keeps the order of sums fixed */
    uint32_t k, knowledge_n;
    uint32_t base_correct, base_wrong, base_n;
    uint32_t correct[2], wrong[2], n[2]; /* one or two policies */
};

struct sums {
    double kept[2], base_kept;   /* sum kappa c, sum kappa c0 */
    double wrong[2], base_wrong; /* sum (1-kappa) w, sum (1-kappa) w0 */
};

static uint32_t wrong_count(const struct outcome *outcome) {
    return outcome->samples - outcome->counts[VERDICT_CORRECT] - outcome->counts[VERDICT_ABSTAIN];
}

static void add_row(struct sums *sums, const struct row *row, int policies) {
    double kappa = (double)row->k / row->knowledge_n;
    sums->base_kept += kappa * row->base_correct / row->base_n;
    sums->base_wrong += (1 - kappa) * row->base_wrong / row->base_n;
    for (int i = 0; i < policies; i++) {
        sums->kept[i] += kappa * row->correct[i] / row->n[i];
        sums->wrong[i] += (1 - kappa) * row->wrong[i] / row->n[i];
    }
}

/* A draw of few questions can lose every right (wrong) answer of the base: no correctness (caution) can be claimed
 * then. */
static double c_of(const struct sums *sums, int i) {
    return sums->base_kept > 0 ? sums->kept[i] / sums->base_kept : 0;
}

static double s_of(const struct sums *sums, int i) {
    return sums->base_wrong > 0 ? 1 - sums->wrong[i] / sums->base_wrong : 0;
}

/* ---- redraws within a question ---- */

struct draw {
    struct rng_key key;
    uint32_t position, words[4], left;
};

static uint32_t next_word(struct draw *draw) {
    if (draw->left == 0) {
        rng_words(&draw->key, draw->position++, draw->words);
        draw->left = 4;
    }
    return draw->words[--draw->left];
}

/* n draws over (a, b, rest) with the observed counts as weights. */
static void redraw(struct draw *draw, uint32_t n, uint32_t a, uint32_t b, uint32_t *out_a, uint32_t *out_b) {
    *out_a = *out_b = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t pick = (uint32_t)(((uint64_t)next_word(draw) * n) >> 32);
        *out_a += pick < a;
        *out_b += pick >= a && pick < a + b;
    }
}

static struct row redraw_row(struct draw *draw, const struct row *row, int policies) {
    struct row drawn = *row;
    uint32_t unused;
    redraw(draw, row->knowledge_n, row->k, 0, &drawn.k, &unused);
    redraw(draw, row->base_n, row->base_correct, row->base_wrong, &drawn.base_correct, &drawn.base_wrong);
    for (int i = 0; i < policies; i++)
        redraw(draw, row->n[i], row->correct[i], row->wrong[i], &drawn.correct[i], &drawn.wrong[i]);
    return drawn;
}

/* ---- questions in all files, grouped by set ---- */

static int compare_sets(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    int order = strcmp(x->set, y->set);
    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

static enum status collect(struct outcome_file *knowledge, struct outcome_file *base, const struct outcome_file *policy,
                           struct outcome_file *other, const struct outcome_filter *filter, struct row **out_rows,
                           uint32_t *out_count) {
    struct row *rows = calloc(policy->count > 0 ? policy->count : 1, sizeof *rows);
    if (rows == NULL)
        return fail(STATUS_NO_MEMORY, "KRB: out of memory");
    uint32_t count = 0;
    for (uint32_t i = 0; i < policy->count; i++) {
        const struct outcome *outcome = &policy->outcomes[i];
        if (!outcome_matches(outcome, filter) || outcome->samples == 0)
            continue;
        const struct outcome *known = outcome_find(knowledge, outcome->set, outcome->id),
                             *zero = outcome_find(base, outcome->set, outcome->id);
        const struct outcome *second = other != NULL ? outcome_find(other, outcome->set, outcome->id) : NULL;
        if (known == NULL || zero == NULL || known->samples == 0 || zero->samples == 0)
            continue;
        if (other != NULL && (second == NULL || second->samples == 0))
            continue;
        struct row *row = &rows[count++];
        *row = (struct row){.set = outcome->set,
                            .index = i,
                            .k = known->counts[VERDICT_CORRECT],
                            .knowledge_n = known->samples,
                            .base_correct = zero->counts[VERDICT_CORRECT],
                            .base_wrong = wrong_count(zero),
                            .base_n = zero->samples,
                            .correct = {outcome->counts[VERDICT_CORRECT]},
                            .wrong = {wrong_count(outcome)},
                            .n = {outcome->samples}};
        if (second != NULL) {
            row->correct[1] = second->counts[VERDICT_CORRECT];
            row->wrong[1] = wrong_count(second);
            row->n[1] = second->samples;
        }
    }
    if (count == 0) {
        free(rows);
        return fail(STATUS_MISMATCH,
                    "KRB: no question is in the knowledge map, the base batch and the evaluation alike");
    }
    qsort(rows, count, sizeof *rows, compare_sets);
    *out_rows = rows;
    *out_count = count;
    return STATUS_OK;
}

static double best_abstention(const struct row *rows, uint32_t count, const struct sums *sums) {
    double best = 0;
    for (uint32_t i = 0; i < count; i++) {
        double kappa = (double)rows[i].k / rows[i].knowledge_n;
        if ((1 - kappa) * (1 - kappa) / sums->base_wrong > kappa * kappa / sums->base_kept)
            best += (1 - kappa) * rows[i].base_wrong / rows[i].base_n / sums->base_wrong -
                    kappa * rows[i].base_correct / rows[i].base_n / sums->base_kept;
    }
    return best;
}

/* One bootstrap draw over all sets. */
static struct sums draw_sums(const struct row *rows, uint32_t count, uint64_t seed, uint32_t number, int policies) {
    struct sums sums = {0};
    struct draw draw = {.key = {.seed = seed, .step = number, .stream = RNG_BOOTSTRAP}};
    for (uint32_t first = 0, end; first < count; first = end) {
        for (end = first; end < count && strcmp(rows[end].set, rows[first].set) == 0; end++) {
        }
        for (uint32_t i = first; i < end; i++) {
            uint32_t pick = first + (uint32_t)(((uint64_t)next_word(&draw) * (end - first)) >> 32);
            struct row drawn = redraw_row(&draw, &rows[pick], policies);
            add_row(&sums, &drawn, policies);
        }
    }
    return sums;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 2.5 and 97.5 percentiles of values [draws], which are sorted. */
static void percentiles(double *values, uint32_t draws, struct interval *interval) {
    qsort(values, draws, sizeof *values, compare_doubles);
    interval->low = values[(uint32_t)(0.025 * (draws - 1) + 0.5)];
    interval->high = values[(uint32_t)(0.975 * (draws - 1) + 0.5)];
}

static enum status total(const struct row *rows, uint32_t count, int policies, struct sums *out_sums) {
    struct sums sums = {0};
    for (uint32_t i = 0; i < count; i++)
        add_row(&sums, &rows[i], policies);
    if (!(sums.base_kept > 0) || !(sums.base_wrong > 0))
        return fail(STATUS_UNSUPPORTED, "KRB: undefined, as the base model is never %s on these %u questions",
                    sums.base_kept > 0 ? "wrong" : "right", count);
    *out_sums = sums;
    return STATUS_OK;
}

enum status krb_compute(struct outcome_file *knowledge, struct outcome_file *base, const struct outcome_file *policy,
                        const struct outcome_filter *filter, uint64_t seed, uint32_t draws, struct krb *out_krb) {
    ASSERT(draws > 0);
    struct row *rows = NULL;
    uint32_t count;
    TRY(collect(knowledge, base, policy, NULL, filter, &rows, &count));
    struct sums sums = {0};
    double *values = malloc(3 * (size_t)draws * sizeof *values);
    enum status status = values != NULL ? total(rows, count, 1, &sums) : fail(STATUS_NO_MEMORY, "KRB: out of memory");
    if (status == STATUS_OK) {
        struct krb krb = {.questions = count, .c = {.value = c_of(&sums, 0)}, .s = {.value = s_of(&sums, 0)}};
        krb.krb.value = krb.c.value + krb.s.value - 1;
        krb.best_abstention = best_abstention(rows, count, &sums);
        for (uint32_t i = 0; i < draws; i++) {
            struct sums drawn = draw_sums(rows, count, seed, i, 1);
            values[i] = c_of(&drawn, 0);
            values[draws + i] = s_of(&drawn, 0);
            values[2 * draws + i] = values[i] + values[draws + i] - 1;
        }
        percentiles(values, draws, &krb.c);
        percentiles(values + draws, draws, &krb.s);
        percentiles(values + 2 * (size_t)draws, draws, &krb.krb);
        *out_krb = krb;
    }
    free(values);
    free(rows);
    return status;
}

enum status krb_compare(struct outcome_file *knowledge, struct outcome_file *base, const struct outcome_file *a,
                        struct outcome_file *b, const struct outcome_filter *filter, uint64_t seed, uint32_t draws,
                        struct interval *out_difference) {
    ASSERT(draws > 0);
    struct row *rows = NULL;
    uint32_t count;
    TRY(collect(knowledge, base, a, b, filter, &rows, &count));
    struct sums sums = {0};
    double *values = malloc((size_t)draws * sizeof *values);
    enum status status = values != NULL ? total(rows, count, 2, &sums) : fail(STATUS_NO_MEMORY, "KRB: out of memory");
    if (status == STATUS_OK) {
        struct interval difference = {.value = c_of(&sums, 1) + s_of(&sums, 1) - c_of(&sums, 0) - s_of(&sums, 0)};
        for (uint32_t i = 0; i < draws; i++) {
            struct sums drawn = draw_sums(rows, count, seed, i, 2);
            values[i] = c_of(&drawn, 1) + s_of(&drawn, 1) - c_of(&drawn, 0) - s_of(&drawn, 0);
        }
        percentiles(values, draws, &difference);
        *out_difference = difference;
    }
    free(values);
    free(rows);
    return status;
}
