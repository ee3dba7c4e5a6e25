/* Words for durations: what a bar says of the time left. */
#include "tests/support/test.h"

#include "deploy/cli/progress.h"

static void durations_are_in_the_two_largest_units(void **state) {
    (void)state;
    static const struct {
        double seconds;
        const char *words;
    } cases[] = {{-1, "0 s"},         {0.4, "0 s"},        {59.4, "59 s"},        {59.6, "1 min"},
                 {3540, "59 min"},    {3580, "1 h 0 min"}, {12000, "3 h 20 min"}, {86400 * 2 + 3600 * 4, "2 d 4 h"},
                 {172790, "2 d 0 h"}, {1e300, "0 s"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[32];
        progress_duration(cases[i].seconds, words, sizeof words);
        assert_string_equal(words, cases[i].words);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_in_the_two_largest_units),
    };
    return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
