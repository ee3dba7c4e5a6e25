/* What the normaliser folds together, and what it keeps apart. */
#include "tests/support/test.h"

#include "reward/lexicon.h"
#include "reward/normalise.h"

/* Tokens with a space between them. */
static const char *normal_text(const char *text, size_t bytes) {
    static struct normal normal;
    static char joined[2 * NORMAL_TEXT_MAX];
    size_t end = 0;
    normalise(text, bytes, &normal);
    for (uint32_t i = 0; i < normal.token_count; i++) {
        if (i > 0)
            joined[end++] = ' ';
        memcpy(joined + end, normal.text + normal.tokens[i].start, normal.tokens[i].bytes);
        end += normal.tokens[i].bytes;
    }
    joined[end] = '\0';
    return joined;
}

struct pair {
    const char *text, *expected;
};

static void check(const struct pair *pairs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *got = normal_text(pairs[i].text, strlen(pairs[i].text));
        if (strcmp(got, pairs[i].expected) != 0)
            fail_msg("\"%s\" became \"%s\", expected \"%s\"", pairs[i].text, got, pairs[i].expected);
    }
}

#define CHECK(pairs) check((pairs), sizeof(pairs) / sizeof((pairs)[0]))

static void words_lose_case_punctuation_articles_and_accents(void **state) {
    (void)state;
    const struct pair pairs[] = {
        {"The Lord of the Rings!", "lord of rings"},
        {"Götterdämmerung", "gotterdammerung"},
        {"Łódź, Ærø", "lodz aero"},
        {"ｆｕｌｌ ﬁ", "full fi"},
        {"Straße", "strasse"},
        {"rock & roll", "rock and roll"},
        {"Guy Henry's", "guy henry"},
        {"Guy Henry’s", "guy henry"},
        {"O'Brien", "o brien"},
        {"back–flow back-flow", "back flow back flow"},
        {"wasErnest Rutherford1", "was ernest rutherford 1"},
        {"\\text{Paris}", "paris"},
        {"", ""},
    };
    CHECK(pairs);
}

static void an_answer_of_articles_or_signs_alone_stays_one(void **state) {
    (void)state;
    const struct pair pairs[] = {
        {"The The", "the the"}, {"!!!", "!!!"}, {"Hepatitis A", "hepatitis a"}, {"N/A", "n a"}};
    CHECK(pairs);
}

static void numbers_have_one_form(void **state) {
    (void)state;
    const struct pair pairs[] = {
        {"1,234,567", "1234567"},
        {"1 234 567", "1234567"},
        {"1\xc2\xa0"
         "234",
         "1234"},
        {"36.0", "36"},
        {"0.50", "0.5"},
        {"84,3 %", "84.3"},
        {"007", "7"},
        {"0", "0"},
        {"zero", "0"},
        {"twenty-one", "21"},
        {"21st", "21"},
        {"twenty-first", "21"},
        {"nineteen hundred", "1900"},
        {"2.5 million", "2500000"},
        {"10.5%", "10.5"},
        {"10 percent", "10"},
        {"5 000", "5000"},
        {"one hundred and one dalmatians", "101 dalmatians"},
        {"fifty-eight thousand, one hundred and twenty-five", "58125"},
        {"two million three thousand", "2003000"},
        {"two four-year terms", "2 4 year terms"},
        {"12345678901234567890123", "12345678901234567890123"},
    };
    CHECK(pairs);
}

static void roman_numerals_are_numbers_where_they_number_something(void **state) {
    (void)state;
    const struct pair pairs[] = {
        {"Henry VIII", "henry 8"},
        {"Henry the Eighth", "henry 8"},
        {"world war ii", "world war 2"},
        {"Article XIV", "article 14"},
        {"Malcolm X", "malcolm x"},
        {"size XL", "size xl"},
        {"VIII", "viii"},
        {"Super Bowl IIX", "super bowl iix"},
    };
    CHECK(pairs);
}

static void dates_have_one_form(void **state) {
    (void)state;
    const struct pair pairs[] = {
        {"2004-03-15", "march 15 2004"},
        {"3/15/2004", "march 15 2004"},
        {"15/3/2004", "march 15 2004"},
        {"15.3.2004", "march 15 2004"},
        {"March 15th, 2004", "march 15 2004"},
        {"Sept 3", "september 3"},
        {"1946–47", "1946 1947"},
        {"1946-1947", "1946 1947"},
        {"2004-13-15", "2004 13 15"},
        {"09:15", "9 15"},
        {"may", "may"},
    };
    CHECK(pairs);
    struct normal date, word;
    normalise("May 5", 5, &date);
    normalise("it may", 6, &word);
    assert_int_equal(date.tokens[0].kind, TOKEN_MONTH);
    assert_int_equal(word.tokens[1].kind, TOKEN_WORD);
}

static void initials_and_countries_have_one_form(void **state) {
    (void)state;
    const struct pair pairs[] = {
        {"J. R. R. Tolkien", "jrr tolkien"},
        {"JRR Tolkien", "jrr tolkien"},
        {"U.S. Route 66", "us route 66"},
        {"the United States of America", "us"},
        {"USA", "us"},
        {"George W. Bush", "george w bush"},
    };
    CHECK(pairs);
}

static void ideographs_are_tokens_of_their_own(void **state) {
    (void)state;
    const struct pair pairs[] = {{"阴妖子", "阴 妖 子"}, {"2004年", "2004 年"}};
    CHECK(pairs);
}

static void malformed_utf8_separates(void **state) {
    (void)state;
    assert_string_equal(normal_text("a\xff"
                                    "b c\xc3",
                                    7),
                        "a b c");
    assert_string_equal(normal_text("x\0y", 3), "x y");
}

static void long_text_is_cut_where_the_room_ends(void **state) {
    (void)state;
    static char text[20000];
    struct normal normal;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 2 == 0 ? 'x' : ' ';
    size_t used = normalise(text, sizeof text, &normal);
    assert_true(used < sizeof text && used > 1500);
    assert_true(normal.token_count <= NORMAL_TOKENS_MAX);
    memset(text, 'x', sizeof text);
    used = normalise(text, sizeof text, &normal);
    assert_true(used < sizeof text && normal.text_bytes <= NORMAL_TEXT_MAX);
    for (uint32_t i = 0; i < normal.token_count; i++)
        assert_true(normal.tokens[i].bytes <= TOKEN_BYTES_MAX);
}

static void the_lexicon_is_sorted(void **state) {
    (void)state;
    size_t count;
    const struct lexicon_entry *table = lexicon_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(table[i - 1].word, table[i].word) >= 0)
            fail_msg("%s stands before %s", table[i - 1].word, table[i].word);
        assert_ptr_equal(lexicon_find(table[i].word, strlen(table[i].word)), &table[i]);
    }
    assert_null(lexicon_find("thous", 5));
    assert_null(lexicon_find("", 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_lose_case_punctuation_articles_and_accents),
        cmocka_unit_test(an_answer_of_articles_or_signs_alone_stays_one),
        cmocka_unit_test(numbers_have_one_form),
        cmocka_unit_test(roman_numerals_are_numbers_where_they_number_something),
        cmocka_unit_test(dates_have_one_form),
        cmocka_unit_test(initials_and_countries_have_one_form),
        cmocka_unit_test(ideographs_are_tokens_of_their_own),
        cmocka_unit_test(malformed_utf8_separates),
        cmocka_unit_test(long_text_is_cut_where_the_room_ends),
        cmocka_unit_test(the_lexicon_is_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
