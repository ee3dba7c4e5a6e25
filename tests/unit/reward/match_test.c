/* Which finals match which golds, by rule. */
#include "tests/support/test.h"

#include "reward/match.h"

static enum match_rule match(const char *question, const char *alias, const char *final) {
    struct question_golds golds = {question, &alias, 1};
    struct gold_set *set;
    struct normal normal;
    ASSERT_OK(gold_set_create(&golds, &set));
    normalise(final, strlen(final), &normal);
    enum match_rule rule = match_final(set, normal_list(&normal)).rule;
    gold_set_destroy(&set);
    assert_null(set);
    return rule;
}

struct example {
    const char *question, *alias, *final;
    enum match_rule rule;
};

static void check(const struct example *examples, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct example *e = &examples[i];
        enum match_rule rule = match(e->question, e->alias, e->final);
        if (rule != e->rule)
            fail_msg("\"%s\" for \"%s\" (%s): %s, expected %s", e->final, e->alias, e->question, match_rule_name(rule),
                     match_rule_name(e->rule));
    }
}

#define CHECK(examples) check((examples), sizeof(examples) / sizeof((examples)[0]))

static void spelling_and_spaces_do_not_matter(void **state) {
    (void)state;
    const struct example examples[] = {
        {"q", "back-flow prevention", "backflow prevention", MATCH_SAME},
        {"q", "J K L", "JKL", MATCH_SAME},
        {"q", "Nadia Comăneci", "nadia comaneci", MATCH_SAME},
        {"q", "Life of Pi (novel)", "Life of Pi", MATCH_SAME},
        {"q", "It", "it", MATCH_SAME},
        {"q", "It", "It was Paris", MATCH_NONE},
        {"q", "!!!", "!!!", MATCH_SAME},
    };
    CHECK(examples);
}

static void whole_tokens_are_compared(void **state) {
    (void)state;
    const struct example examples[] = {
        {"q", "Tokyo", "It is Tokyo, of course", MATCH_SPAN},
        {"q", "rain", "by train", MATCH_NONE},
        {"q", "Bryophyta", "Bryophytes", MATCH_ALIKE},
        {"q", "Colombia", "Colombian", MATCH_ALIKE},
        {"q", "Laszlo Bannister", "Laszlo Banister", MATCH_ALIKE},
        {"q", "Niger", "Nigeria", MATCH_NONE},
        {"q", "Mario", "Maria", MATCH_NONE},
        {"q", "Austria", "Australia", MATCH_NONE},
        {"q", "Lynda Carter", "the series starredLynda Carteras Diana Prince and two more actors", MATCH_SQUEEZED},
    };
    CHECK(examples);
}

static void numbers_are_compared_as_numbers(void **state) {
    (void)state;
    const struct example examples[] = {
        {"how many", "58,125", "fifty-eight thousand one hundred and twenty-five", MATCH_SAME},
        {"how many", "2.5 million", "2,500,000", MATCH_SAME},
        {"how many", "228 minutes", "113 minutes", MATCH_NONE},
        {"how many", "228 minutes", "228", MATCH_F1},
        {"how many", "4.37 light-years", "4.2 light-years", MATCH_NONE},
        {"how many", "5 ft 6 in", "5 ft 5 in", MATCH_NONE},
        {"how many", "55 calories", "355 calories", MATCH_NONE},
        {"which", "Apollo 13", "Apollo 11", MATCH_NONE},
        {"which", "Elizabeth II", "Elizabeth the Second", MATCH_SAME},
        {"which", "Elizabeth II", "Elizabeth I", MATCH_NONE},
    };
    CHECK(examples);
}

static void dates_are_compared_as_dates(void **state) {
    (void)state;
    const struct example examples[] = {
        {"when", "4 July 1776", "July 4th, 1776", MATCH_DATE},
        {"when", "2004-03-15", "15 March 2004", MATCH_DATE},
        {"when", "March 18, 2018", "March 25, 2018", MATCH_NONE},
        {"when", "15 December 2017", "15 November 2017", MATCH_NONE},
        {"when", "September 1972", "It first aired on September 14, 1972 on CBS, a channel", MATCH_DATE},
        {"when did it close", "September 19, 1977", "1977", MATCH_YEAR},
        {"when did it close", "September 19, 1977", "September 1977", MATCH_YEAR},
        {"when did it close", "September 19, 1977", "October 1977", MATCH_NONE},
        {"on what day, month and year did it close", "September 19, 1977", "1977", MATCH_NONE},
    };
    CHECK(examples);
}

static void a_part_may_stand_for_the_whole(void **state) {
    (void)state;
    const struct example examples[] = {
        {"where", "Oslo, Norway", "Oslo", MATCH_INSIDE},
        {"who", "Kate Mulgrew", "Mulgrew", MATCH_INSIDE},
        {"who", "Kate Mulgrew", "Kate", MATCH_NONE},
        {"which river", "River Esk", "River", MATCH_NONE},
        {"who were the two", "Simon and Garfunkel", "Garfunkel", MATCH_NONE},
        {"q", "Isle of Man", "Man", MATCH_NONE},
    };
    CHECK(examples);
}

static void names_may_lose_their_middle(void **state) {
    (void)state;
    const struct example examples[] = {
        {"who", "Taylor Michel Momsen", "She was played by Taylor Momsen in the film of 2000", MATCH_FIRST_LAST},
        {"who", "James P. Flynn", "Jimmy Flynn", MATCH_NAME},
        {"who", "B. R. Ambedkar", "Bhimrao Ramji Ambedkar", MATCH_NAME},
        {"who", "Samantha Hill", "Samantha Barks", MATCH_NONE},
        {"what", "association football", "American football", MATCH_NONE},
    };
    CHECK(examples);
}

static void shared_words_count_only_when_they_are_the_answer(void **state) {
    (void)state;
    const struct example examples[] = {
        {"which river", "Harlem River", "the East River", MATCH_NONE},
        {"q", "structure of DNA", "DNA molecule structure", MATCH_F1},
        {"a basic rock", "alternative rock", "soft rock", MATCH_NONE},
        {"what is it about", "slowing the vehicle down",
         "It is a brake made for slowing a heavy vehicle with its own engine", MATCH_RECALL},
        {"which genre", "historical fantasy", "It is a book of many pages that was written in England", MATCH_NONE},
    };
    CHECK(examples);
}

static void other_scripts_match_by_character(void **state) {
    (void)state;
    const struct example examples[] = {
        {"谁", "阴妖子", "他变成了阴妖子", MATCH_SPAN},
        {"谁", "阴妖子", "鲭鱼罐头", MATCH_NONE},
        {"Kde", "Praha", "v Praze", MATCH_NONE},
        {"где", "Москва", "Это МОСКВА", MATCH_SPAN},
    };
    CHECK(examples);
}

static void limits_of_golds_are_refused_by_name(void **state) {
    (void)state;
    static const char *many[GOLD_ALIASES_MAX + 1];
    for (size_t i = 0; i <= GOLD_ALIASES_MAX; i++)
        many[i] = "x";
    struct gold_set *set = NULL;
    struct question_golds golds = {"q", many, GOLD_ALIASES_MAX + 1};
    ASSERT_FAILS(STATUS_LIMIT, gold_set_create(&golds, &set));
    golds.alias_count = GOLD_ALIASES_MAX;
    ASSERT_OK(gold_set_create(&golds, &set));
    assert_int_equal(set->alias_count, 1); /* the same alias is kept once */
    gold_set_destroy(&set);
    char *huge = calloc(1, GOLD_TEXT_BYTES_MAX + 2);
    memset(huge, 'x', GOLD_TEXT_BYTES_MAX + 1);
    many[0] = huge;
    ASSERT_FAILS(STATUS_LIMIT, gold_set_create(&golds, &set));
    golds.question = huge;
    golds.alias_count = 0;
    ASSERT_FAILS(STATUS_LIMIT, gold_set_create(&golds, &set));
    assert_null(set);
    free(huge);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spelling_and_spaces_do_not_matter),
        cmocka_unit_test(whole_tokens_are_compared),
        cmocka_unit_test(numbers_are_compared_as_numbers),
        cmocka_unit_test(dates_are_compared_as_dates),
        cmocka_unit_test(a_part_may_stand_for_the_whole),
        cmocka_unit_test(names_may_lose_their_middle),
        cmocka_unit_test(shared_words_count_only_when_they_are_the_answer),
        cmocka_unit_test(other_scripts_match_by_character),
        cmocka_unit_test(limits_of_golds_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
