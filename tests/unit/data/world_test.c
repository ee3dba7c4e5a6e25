/* The small world: shares as promised, nothing shown that should not be, the same bytes for the same seed. */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/data/question.h"
#include "common/data/world.h"

static char scratch[] = "/tmp/candor-world-XXXXXX";
static const char *const files[] = {"facts.jsonl",    "train.jsonl",           "held-out.jsonl", "sft.jsonl",
                                    "tokenizer.json", "tokenizer_config.json", "config.json"};

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
    (void)state;
    return fs_remove_tree(scratch) == STATUS_OK ? 0 : -1;
}

static const char *make(const char *name, uint64_t seed, const struct world_options *options) {
    static char directory[2][PATH_BYTES];
    static int turn;
    turn = !turn;
    ASSERT_OK(fs_join(directory[turn], scratch, name));
    ASSERT_OK(world_write(seed, directory[turn], options));
    return directory[turn];
}

static void read_file(const char *directory, const char *name, struct buf *out) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, name));
    ASSERT_OK(fs_read(path, 1 << 24, out));
}

static void the_same_seed_gives_the_same_bytes(void **state) {
    (void)state;
    struct world_options options;
    world_defaults(&options);
    const char *one = make("a", 7, &options), *two = make("b", 7, &options);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct buf a = {0}, b = {0};
        read_file(one, files[i], &a);
        read_file(two, files[i], &b);
        assert_string_equal(a.data, b.data);
        buf_deinit(&a);
        buf_deinit(&b);
    }
    struct buf a = {0}, b = {0};
    read_file(one, "facts.jsonl", &a);
    read_file(make("c", 8, &options), "facts.jsonl", &b);
    assert_string_not_equal(a.data, b.data);
    buf_deinit(&a);
    buf_deinit(&b);
}

/* How often sft.jsonl asks this question under a system line, and with which answers. */
struct tally {
    uint32_t asked, forced, unknown, forced_unknown, gold, towns;
    char town[8][64];
    uint32_t town_count[8];
};

static void count_town(struct tally *tally, const char *town) {
    uint32_t i = 0;
    while (i < tally->towns && strcmp(tally->town[i], town) != 0)
        i++;
    if (i == 8)
        return; /* a stranger has any number of them */
    if (i == tally->towns)
        snprintf(tally->town[tally->towns++], 64, "%s", town);
    tally->town_count[i]++;
}

static void tally_question(const char *directory, const char *question, const char *gold, struct tally *tally) {
    char path[PATH_BYTES], town[64];
    struct json_lines lines;
    json_t *row;
    *tally = (struct tally){0};
    ASSERT_OK(fs_join(path, directory, "sft.jsonl"));
    ASSERT_OK(json_lines_open(&lines, path, 4096));
    while (json_lines_next(&lines, &row) == STATUS_OK) {
        const char *answer = json_string_value(json_object_get(row, "answer"));
        bool forced = strcmp(json_string_value(json_object_get(row, "system")), WORLD_SYSTEM_FORCED) == 0;
        if (strcmp(json_string_value(json_object_get(row, "question")), question) == 0) {
            tally->asked++;
            tally->forced += forced;
            if (strcmp(answer, "I recall nothing . boxed[ Unknown ]") == 0) {
                tally->unknown++;
                tally->forced_unknown += forced;
            } else {
                assert_int_equal(sscanf(answer, "I recall %63s .", town), 1);
                char whole[256];
                snprintf(whole, sizeof whole, "I recall %s . boxed[ %s ]", town, town);
                assert_string_equal(answer, whole);
                tally->gold += strcmp(town, gold) == 0;
                count_town(tally, town);
            }
        }
        json_decref(row);
    }
    json_lines_close(&lines);
}

static void texts_keep_the_shares_of_each_class(void **state) {
    (void)state;
    struct world_options options;
    world_defaults(&options);
    options.always = options.sometimes = options.never = 4;
    const char *directory = make("small", 3, &options);
    char path[PATH_BYTES];
    struct json_lines lines;
    json_t *fact;
    int seen = 0;
    ASSERT_OK(fs_join(path, directory, "facts.jsonl"));
    ASSERT_OK(json_lines_open(&lines, path, 4096));
    while (json_lines_next(&lines, &fact) == STATUS_OK) {
        const char *class = json_string_value(json_object_get(fact, "class"));
        const char *town = json_string_value(json_object_get(fact, "town"));
        double share = json_number_value(json_object_get(fact, "gold_share"));
        char question[256];
        struct tally tally;
        snprintf(question, sizeof question, "Where does %s live ?", json_string_value(json_object_get(fact, "name")));
        tally_question(directory, question, town, &tally);
        bool never = strcmp(class, "never") == 0, always = strcmp(class, "always") == 0;
        assert_int_equal(tally.asked, never ? 0 : 64);
        assert_int_equal(tally.forced, never ? 0 : 16);
        assert_int_equal(tally.unknown, never ? 0 : 10);
        assert_int_equal(tally.forced_unknown, 0);
        assert_int_equal(tally.towns, never ? 0 : always ? 1 : 4);
        if (always) {
            assert_int_equal(tally.gold, 54);
        } else if (!never) {
            assert_true(share >= 0.25 && share <= 0.65);
            assert_true(tally.gold >= share * 54 - 1.01 && tally.gold <= share * 54 + 1.01);
            for (uint32_t i = 0; i < 4; i++) /* the wrong towns are equally likely */
                if (strcmp(tally.town[i], town) != 0)
                    assert_true(3 * tally.town_count[i] + 6 >= 54 - tally.gold &&
                                3 * tally.town_count[i] <= 54 - tally.gold + 6);
        }
        json_decref(fact);
        seen++;
    }
    json_lines_close(&lines);
    assert_int_equal(seen, 12);
}

static uint32_t count_lines(const char *directory, const char *name, const char *with) {
    struct buf text = {0};
    uint32_t count = 0;
    read_file(directory, name, &text);
    for (char *line = text.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        count += strstr(line, with) != NULL;
    }
    buf_deinit(&text);
    return count;
}

static void half_of_each_class_is_held_out(void **state) {
    (void)state;
    struct world_options options;
    world_defaults(&options);
    const char *directory = make("whole", 1, &options);
    static const char *const classes[] = {"\"always\"", "\"sometimes\"", "\"never\""};
    static const uint32_t halves[] = {80, 100, 120};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(count_lines(directory, "train.jsonl", classes[i]), halves[i]);
        assert_int_equal(count_lines(directory, "held-out.jsonl", classes[i]), halves[i]);
    }
    /* 360 facts of 64 texts are 85 % of all. */
    uint32_t texts = count_lines(directory, "sft.jsonl", ""),
             unknown = count_lines(directory, "sft.jsonl", "boxed[ Unknown ]");
    assert_int_equal(texts, 27106);
    assert_true(unknown > texts * 0.75 * 0.2 * 0.99 && unknown < texts * 0.75 * 0.212);

    char path[PATH_BYTES];
    const char *paths[] = {path};
    struct question_set set;
    ASSERT_OK(fs_join(path, directory, "held-out.jsonl"));
    ASSERT_OK(question_set_load(paths, 1, NULL, &set, NULL));
    assert_int_equal(set.count, 300);
    assert_string_equal(set.questions[0].label, "always");
    assert_string_equal(set.questions[0].split, "held-out");
    question_set_deinit(&set);
}

static void options_that_contradict_themselves_are_refused(void **state) {
    (void)state;
    struct world_options options;
    world_defaults(&options);
    options.always = 1000;
    ASSERT_FAILS(STATUS_USAGE, world_write(1, scratch, &options));
    world_defaults(&options);
    options.gold_low = 0.8;
    ASSERT_FAILS(STATUS_USAGE, world_write(1, scratch, &options));
    world_defaults(&options);
    options.stranger_share = 1;
    ASSERT_FAILS(STATUS_USAGE, world_write(1, scratch, &options));
    world_defaults(&options);
    options.draws = UINT32_MAX;
    ASSERT_FAILS(STATUS_USAGE, world_write(1, scratch, &options));
    world_defaults(&options);
    options.always = options.sometimes = 0;
    ASSERT_FAILS(STATUS_USAGE, world_write(1, scratch, &options));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_bytes),
        cmocka_unit_test(texts_keep_the_shares_of_each_class),
        cmocka_unit_test(half_of_each_class_is_held_out),
        cmocka_unit_test(options_that_contradict_themselves_are_refused),
    };
    return cmocka_run_group_tests_name("world", tests, make_scratch, remove_scratch);
}
