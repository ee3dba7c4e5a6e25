/* The bars on real answers: agreement with people, extraction from real outputs, shuffled golds. Needs the data folder.
 */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/base/json.h"
#include "reward/score.h"
#include "tests/support/reward/judged.h"

struct tally {
    double right, missed, excess, rejected;
};

static void tally_row(void *user, const struct judged *row) {
    struct tally *tally = user;
    struct question_golds golds = {row->question, row->aliases, row->alias_count};
    struct gold_set *set;
    struct score score;
    ASSERT_OK(gold_set_create(&golds, &set));
    score_plain(set, row->answer, strlen(row->answer), &score);
    gold_set_destroy(&set);
    bool found = score.verdict == VERDICT_CORRECT;
    *(row->correct ? (found ? &tally->right : &tally->missed) : (found ? &tally->excess : &tally->rejected)) += 1;
}

static struct tally read_sets(const char *select) {
    struct tally tally = {0};
    size_t count;
    const struct judged_set *sets = judged_sets(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(sets[i].select, select) != 0)
            continue;
        enum status status = judged_read(&sets[i], SHARED_DATA, tally_row, &tally);
        if (status == STATUS_NOT_FOUND)
            SKIP("%s", status_message());
        ASSERT_OK(status);
    }
    return tally;
}

static void check_bar(struct tally tally, double agreement_least, double precision_least) {
    double count = tally.right + tally.missed + tally.excess + tally.rejected;
    double agreement = (tally.right + tally.rejected) / count;
    double precision = tally.right / (tally.right + tally.excess);
    if (agreement < agreement_least || precision < precision_least)
        fail_msg("agreement %.4f (at least %.4f), precision %.4f (at least %.4f)", agreement, agreement_least,
                 precision, precision_least);
}

static void short_answers_are_judged_as_people_judge_them(void **state) {
    (void)state;
    check_bar(read_sets("fid"), 0.945, 0.975);
}

static void sentences_are_judged_as_people_judge_them(void **state) {
    (void)state;
    check_bar(read_sets("sentence"), 0.885, 0.975);
}

/* Each answer against the golds of the question before the one before. */
struct shift {
    char *aliases[2][JUDGED_ALIASES_MAX];
    size_t alias_count[2];
    char question[2][1024];
    double tried, taken;
};

static void shift_row(void *user, const struct judged *row) {
    struct shift *shift = user;
    if (shift->alias_count[0] > 0 && strcmp(shift->question[0], row->question) != 0) {
        struct question_golds golds = {row->question, (const char *const *)shift->aliases[0], shift->alias_count[0]};
        struct gold_set *set;
        struct score score;
        ASSERT_OK(gold_set_create(&golds, &set));
        score_plain(set, row->answer, strlen(row->answer), &score);
        shift->tried += 1;
        shift->taken += score.verdict == VERDICT_CORRECT;
        gold_set_destroy(&set);
    }
    if (strcmp(shift->question[1], row->question) == 0)
        return;
    for (size_t i = 0; i < shift->alias_count[0]; i++)
        free(shift->aliases[0][i]);
    memcpy(shift->aliases[0], shift->aliases[1], sizeof shift->aliases[0]);
    memcpy(shift->question[0], shift->question[1], sizeof shift->question[0]);
    shift->alias_count[0] = shift->alias_count[1];
    shift->alias_count[1] = row->alias_count;
    for (size_t i = 0; i < row->alias_count; i++)
        shift->aliases[1][i] = strdup(row->aliases[i]);
    snprintf(shift->question[1], sizeof shift->question[1], "%s", row->question);
}

static void golds_of_another_question_are_rarely_matched(void **state) {
    (void)state;
    static struct shift shift;
    size_t count;
    const struct judged_set *sets = judged_sets(&count);
    for (size_t i = 0; i < 4; i++) {
        enum status status = judged_read(&sets[i], SHARED_DATA, shift_row, &shift);
        if (status == STATUS_NOT_FOUND)
            SKIP("%s", status_message());
        ASSERT_OK(status);
    }
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < shift.alias_count[k]; i++)
            free(shift.aliases[k][i]);
    }
    assert_true(shift.tried > 10000);
    if (shift.taken > 0.01 * shift.tried)
        fail_msg("%.0f of %.0f", shift.taken, shift.tried);
}

static void final_answers_are_found_in_real_outputs(void **state) {
    (void)state;
    static const char *const files[] = {"popqa_base_v0", "triviaqa_base_v1", "nq_base_v1", "bamboogle_base_v1",
                                        "bamboogle_instruct_v1"};
    const struct question_golds golds = {"", NULL, 0};
    struct gold_set *set;
    double complete = 0, extracted = 0;
    ASSERT_OK(gold_set_create(&golds, &set));
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[PATH_BYTES];
        json_t *array, *item;
        size_t i;
        snprintf(path, sizeof path, "%s/graded/search_r1_%s.json", SHARED_DATA, files[f]);
        if (!fs_exists(path)) {
            gold_set_destroy(&set);
            SKIP("%s: not there", path);
        }
        ASSERT_OK(json_read_file(path, 64u << 20, &array));
        json_array_foreach(array, i, item) {
            const json_t *output = json_object_get(item, "output");
            const char *text = json_string_value(json_object_get(output, "final_response"));
            const char *theirs = json_string_value(json_object_get(output, "pred"));
            struct score score;
            if (strcmp(json_string_value(json_object_get(output, "stop_reason")), "stop") != 0)
                continue;
            score_answer(set, text, strlen(text), &score);
            complete += 1;
            extracted += score.final_bytes > 0 && theirs != NULL && strlen(theirs) == score.final_bytes &&
                         memcmp(theirs, text + score.final_start, score.final_bytes) == 0;
        }
        json_decref(array);
    }
    gold_set_destroy(&set);
    if (complete < 1000 || extracted < 0.99 * complete)
        fail_msg("%.0f of %.0f", extracted, complete);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_answers_are_judged_as_people_judge_them),
        cmocka_unit_test(sentences_are_judged_as_people_judge_them),
        cmocka_unit_test(golds_of_another_question_are_rarely_matched),
        cmocka_unit_test(final_answers_are_found_in_real_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
