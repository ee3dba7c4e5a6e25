/* From a model's output to a verdict: extraction, Unknown, process-correct and its guards. */
#include "tests/support/test.h"

#include <pthread.h>

#include "common/base/rng.h"
#include "reward/extract.h"
#include "reward/score.h"

static const char *const paris[] = {"Paris", "City of Light"};

static struct score score_with(const char *question, const char *const *aliases, size_t count, const char *text,
                               bool plain) {
    struct question_golds golds = {question, aliases, count};
    struct gold_set *set;
    struct score score;
    ASSERT_OK(gold_set_create(&golds, &set));
    if (plain)
        score_plain(set, text, strlen(text), &score);
    else
        score_answer(set, text, strlen(text), &score);
    gold_set_destroy(&set);
    return score;
}

struct example {
    const char *text;
    enum verdict verdict;
    const char *final;
};

static void check(const char *question, const char *const *aliases, size_t count, const struct example *examples,
                  size_t example_count, bool plain) {
    for (size_t i = 0; i < example_count; i++) {
        const struct example *e = &examples[i];
        struct score score = score_with(question, aliases, count, e->text, plain);
        size_t bytes = e->final == NULL ? score.final_bytes : strlen(e->final);
        if (score.verdict != e->verdict)
            fail_msg("\"%s\": %s, expected %s", e->text, verdict_name(score.verdict), verdict_name(e->verdict));
        if (score.final_bytes != bytes ||
            (e->final != NULL && memcmp(e->text + score.final_start, e->final, bytes) != 0))
            fail_msg("\"%s\": final \"%.*s\", expected \"%s\"", e->text, (int)score.final_bytes,
                     e->text + score.final_start, e->final);
    }
}

#define CHECK(examples)                                                                                                \
    check("What is the capital of France?", paris, 2, (examples), sizeof(examples) / sizeof((examples)[0]), false)

static void the_final_answer_is_read_from_each_format(void **state) {
    (void)state;
    const struct example examples[] = {
        {"I think so. boxed[Paris]", VERDICT_CORRECT, "Paris"},
        {"\\boxed{Paris}", VERDICT_CORRECT, "Paris"},
        {"\\boxed{\\text{Paris}}.", VERDICT_CORRECT, "\\text{Paris}"},
        {"<think>x</think><answer> Paris\n</answer>", VERDICT_CORRECT, "Paris"},
        {"<answer>\\boxed{Paris}</answer>", VERDICT_CORRECT, "Paris"},
        {"**Boxed[Paris]**", VERDICT_CORRECT, "Paris"},
        {"boxed[London] no, boxed[Paris]", VERDICT_CORRECT, "Paris"},
        {"boxed[Paris] no, <answer>Rome</answer>", VERDICT_PROCESS_CORRECT, "Rome"},
        {"answer in boxed[] if sure. boxed[Paris] boxed[ ]", VERDICT_CORRECT, "Paris"},
        {"boxed[Paris [the capital]]", VERDICT_CORRECT, "Paris [the capital]"},
        {"boxed[Paris] and then it was cut off: boxed[Lon", VERDICT_CORRECT, "Paris"},
    };
    CHECK(examples);
}

static void an_answer_outside_the_format_is_malformed(void **state) {
    (void)state;
    const struct example examples[] = {
        {"London", VERDICT_MALFORMED, ""},
        {"", VERDICT_MALFORMED, ""},
        {"The answer is boxed[Lond", VERDICT_MALFORMED, ""},
        {"<answer>Rome</answ", VERDICT_MALFORMED, ""},
        {"<answer>Rome", VERDICT_MALFORMED, ""},
        {"Rome</answer>", VERDICT_MALFORMED, ""},
        {"boxed[Rome}", VERDICT_MALFORMED, ""},
        {"unboxed[Rome]", VERDICT_MALFORMED, ""},
        {"boxed Rome", VERDICT_MALFORMED, ""},
        {"The capital is Paris.", VERDICT_PROCESS_CORRECT, ""},
    };
    CHECK(examples);
}

static void a_final_longer_than_an_answer_is_none(void **state) {
    (void)state;
    char text[3000] = "boxed[Rome";
    memset(text + 10, ' ', 2500);
    strcpy(text + 2510, "]");
    const struct example examples[] = {{text, VERDICT_MALFORMED, ""}};
    CHECK(examples);
}

static void unknown_abstains_whatever_the_reasoning_says(void **state) {
    (void)state;
    const struct example examples[] = {
        {"boxed[Unknown]", VERDICT_ABSTAIN, "Unknown"},
        {"It is Paris. boxed[unknown.]", VERDICT_ABSTAIN, "unknown."},
        {"boxed[I don't know]", VERDICT_ABSTAIN, NULL},
        {"boxed[I do not know the capital]", VERDICT_ABSTAIN, NULL},
        {"boxed[Not sure]", VERDICT_ABSTAIN, NULL},
        {"boxed[N/A]", VERDICT_ABSTAIN, NULL},
        {"boxed[n/a]", VERDICT_ABSTAIN, NULL},
        {"boxed[Cannot be determined]", VERDICT_ABSTAIN, NULL},
        {"boxed[The answer is unknown]", VERDICT_ABSTAIN, NULL},
        {"boxed[未知]", VERDICT_ABSTAIN, NULL},
        {"boxed[Unknown, perhaps Paris]", VERDICT_ABSTAIN, NULL}, /* or else a guess would be paid both ways */
        {"boxed[Unknown, perhaps Rome]", VERDICT_ABSTAIN, NULL},
        {"boxed[Rome, not sure]", VERDICT_WRONG, NULL},
    };
    CHECK(examples);
}

static void a_gold_that_sounds_like_unknown_is_an_answer(void **state) {
    (void)state;
    const char *const aliases[] = {"Unknown Pleasures"};
    const struct example examples[] = {{"boxed[Unknown Pleasures]", VERDICT_CORRECT, NULL}};
    check("Joy Division's first album?", aliases, 1, examples, 1, false);
}

static void listed_candidates_are_not_an_answer(void **state) {
    (void)state;
    const struct example examples[] = {
        {"boxed[Paris or London]", VERDICT_WRONG, NULL},
        {"boxed[London; Paris]", VERDICT_WRONG, NULL},
        {"boxed[Paris / Rome]", VERDICT_WRONG, NULL},
        {"boxed[Paris or the City of Light]", VERDICT_CORRECT, NULL},
        {"boxed[London, Paris]", VERDICT_WRONG, NULL}, /* or two guesses would earn as one */
        {"boxed[;]", VERDICT_WRONG, NULL},             /* no alternative is no answer */
        {"boxed[ / ]", VERDICT_WRONG, NULL},
        {"boxed[|\n;]", VERDICT_WRONG, NULL},
        {"boxed[; Paris]", VERDICT_CORRECT, NULL},
        {"boxed[London and Paris]", VERDICT_WRONG, NULL},
        {"boxed[Paris, Ile-de-France, France]", VERDICT_CORRECT, NULL},
        {"boxed[Paris, London, Rome, Berlin, Madrid, Vienna]", VERDICT_WRONG, NULL},
        {"boxed[London and Paris and Rome and Berlin and Madrid]", VERDICT_WRONG, NULL},
    };
    CHECK(examples);
}

static void a_comma_inside_a_date_or_alias_parts_nothing(void **state) {
    (void)state;
    static const struct {
        const char *alias, *text;
        enum verdict verdict;
    } examples[] = {
        {"4 July 1776", "boxed[July 4, 1776]", VERDICT_CORRECT},
        {"1913", "boxed[1912, 1913]", VERDICT_WRONG},
        {"Simon and Garfunkel", "boxed[Paul Simon and Art Garfunkel]", VERDICT_CORRECT},
        {"Oslo, Norway", "boxed[Norway, Oslo]", VERDICT_CORRECT},
        {"9:15", "boxed[91:5]", VERDICT_WRONG},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const struct example example = {examples[i].text, examples[i].verdict, NULL};
        check("q", &examples[i].alias, 1, &example, 1, false);
    }
}

static void the_right_answer_in_the_reasoning_is_process_correct(void **state) {
    (void)state;
    const struct example examples[] = {
        {"It could be Paris. boxed[Rome]", VERDICT_PROCESS_CORRECT, "Rome"},
        {"boxed[Rome] although it may be Paris", VERDICT_WRONG, NULL}, /* after the answer is too late */
        {"In comparison, boxed[Rome]", VERDICT_WRONG, NULL},           /* whole tokens */
        {"<information>Doc 1: Paris is the capital</information> boxed[Rome]", VERDICT_WRONG, NULL},
        {"<information>Doc</information> so Paris. boxed[Rome]", VERDICT_PROCESS_CORRECT, NULL},
        {"boxed[Paris] boxed[London] boxed[Rome]", VERDICT_PROCESS_CORRECT, NULL},
        {"boxed[Paris] boxed[London] boxed[Madrid] boxed[Rome]", VERDICT_WRONG, NULL},
        {"It is one of London, Paris, Rome, Berlin. boxed[Rome]", VERDICT_WRONG, NULL},
        {"London, Rome, Berlin, maybe Paris. boxed[Rome]", VERDICT_WRONG, NULL},
        {"Paris, London, Rome, Berlin. boxed[Rome]", VERDICT_WRONG, NULL},
        {"Not London, Rome or Berlin. It is Paris, France. boxed[Rome]", VERDICT_PROCESS_CORRECT, NULL},
        {"The answer is Paris. The answer is London. The answer is Oslo. boxed[Rome]", VERDICT_WRONG, NULL},
    };
    CHECK(examples);
}

static void process_correct_does_not_come_by_chance(void **state) {
    (void)state;
    static const struct {
        const char *question, *alias, *text;
        enum verdict verdict;
    } examples[] = {
        {"Is it so?", "yes", "yes and no and yes. boxed[maybe]", VERDICT_WRONG},
        {"Which one?", "Po", "Po, I think. boxed[Rhine]", VERDICT_WRONG}, /* shorter than 4 letters */
        {"How many?", "7", "7, I think. boxed[8]", VERDICT_WRONG},        /* shorter than 2 digits */
        {"How many?", "71", "71, I think. boxed[8]", VERDICT_PROCESS_CORRECT},
        {"Is London or Rome older?", "Rome", "Rome or London. boxed[London]", VERDICT_WRONG}, /* in the question */
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const struct example example = {examples[i].text, examples[i].verdict, NULL};
        check(examples[i].question, &examples[i].alias, 1, &example, 1, false);
    }
}

static void reasoning_is_searched_to_its_end(void **state) {
    (void)state;
    static char text[60000];
    for (size_t at = 3000; at < 50000; at += 997) { /* also where two windows meet */
        memset(text, 0, sizeof text);
        for (size_t i = 0; i < 50000; i++)
            text[i] = i % 7 == 6 ? ' ' : 'x';
        memcpy(text + at, " City of Light ", 15);
        strcpy(text + 50000, " boxed[Rome]");
        struct score score = score_with("q", paris, 2, text, false);
        if (score.verdict != VERDICT_PROCESS_CORRECT)
            fail_msg("not found at %zu", at);
    }
}

static void an_unanswerable_question_is_only_abstained_from(void **state) {
    (void)state;
    const struct example examples[] = {
        {"boxed[Unknown]", VERDICT_ABSTAIN, NULL},
        {"boxed[Paris]", VERDICT_WRONG, NULL},
        {"Paris", VERDICT_MALFORMED, NULL},
    };
    check("What is the capital of Atlantis?", NULL, 0, examples, 3, false);
}

static void a_plain_answer_is_its_own_final(void **state) {
    (void)state;
    const struct example examples[] = {
        {"Paris", VERDICT_CORRECT, "Paris"},
        {"The capital of France is Paris.", VERDICT_CORRECT, NULL},
        {"I am not sure, but it may be Paris.", VERDICT_CORRECT, NULL},
        {"I'm sorry, but I do not have access to maps.", VERDICT_ABSTAIN, NULL},
        {"Unknown", VERDICT_ABSTAIN, NULL},
        {"London", VERDICT_WRONG, "London"},
        {" ", VERDICT_MALFORMED, ""},
    };
    check("What is the capital of France?", paris, 2, examples, 7, true);
}

/* ---- hostile input --------------------------------------------------------------------------------------------------
 */

static void score_random_bytes(void) {
    static char text[4096];
    static const char *const pieces[] = {
        "boxed[", "]",    "\\boxed{",     "}",     "<answer>",        "</answer>",     "Paris",
        " or ",   "\xff", "\xe4\xb8\xad", "1,234", "twenty million ", "<information>", ";"};
    struct question_golds golds = {"q", paris, 2};
    struct gold_set *set;
    ASSERT_OK(gold_set_create(&golds, &set));
    for (uint32_t round = 0; round < 2000; round++) {
        size_t bytes = 0;
        for (uint32_t i = 0; i < 60; i++) {
            struct rng_key key = {.seed = 7, .step = round, .slot = i, .stream = RNG_TEST};
            const char *piece = pieces[rng_below(&key, 0, sizeof pieces / sizeof pieces[0])];
            memcpy(text + bytes, piece, strlen(piece));
            bytes += strlen(piece);
            if (rng_below(&key, 1, 4) == 0)
                text[bytes++] = (char)rng_below(&key, 2, 256);
        }
        struct score score;
        score_answer(set, text, bytes, &score);
        assert_true((unsigned)score.verdict < VERDICT_COUNT);
        assert_true(score.final_start + score.final_bytes <= bytes);
        score_plain(set, text, bytes, &score);
        assert_true((unsigned)score.verdict < VERDICT_COUNT);
    }
    gold_set_destroy(&set);
}

static void any_bytes_have_a_verdict(void **state) {
    (void)state;
    score_random_bytes();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THREAD_STACK_BYTES (8 * SCORE_STACK_BYTES) /* sanitizers enlarge frames */
#else
#define THREAD_STACK_BYTES (SCORE_STACK_BYTES + 16384) /* a little for the thread's own frames */
#endif

static void *score_in_thread(void *unused) {
    score_random_bytes();
    return unused;
}

static void scoring_keeps_to_its_stack(void **state) {
    (void)state;
    pthread_t thread;
    pthread_attr_t attributes;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, score_in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
}

static void a_thousand_unfinished_boxes_hide_nothing(void **state) {
    (void)state;
    static char text[40000];
    size_t bytes = 0;
    for (int i = 0; i < 2500; i++)
        bytes += (size_t)sprintf(text + bytes, "boxed[ <answer>");
    struct box box;
    assert_false(box_find_last(text, bytes, bytes, &box));
    bytes += (size_t)sprintf(text + bytes, "boxed[Paris]");
    assert_true(box_find_last(text, bytes, bytes, &box));
    assert_int_equal(box.bytes, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_final_answer_is_read_from_each_format),
        cmocka_unit_test(an_answer_outside_the_format_is_malformed),
        cmocka_unit_test(a_final_longer_than_an_answer_is_none),
        cmocka_unit_test(unknown_abstains_whatever_the_reasoning_says),
        cmocka_unit_test(a_gold_that_sounds_like_unknown_is_an_answer),
        cmocka_unit_test(listed_candidates_are_not_an_answer),
        cmocka_unit_test(a_comma_inside_a_date_or_alias_parts_nothing),
        cmocka_unit_test(the_right_answer_in_the_reasoning_is_process_correct),
        cmocka_unit_test(process_correct_does_not_come_by_chance),
        cmocka_unit_test(reasoning_is_searched_to_its_end),
        cmocka_unit_test(an_unanswerable_question_is_only_abstained_from),
        cmocka_unit_test(a_plain_answer_is_its_own_final),
        cmocka_unit_test(any_bytes_have_a_verdict),
        cmocka_unit_test(scoring_keeps_to_its_stack),
        cmocka_unit_test(a_thousand_unfinished_boxes_hide_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
