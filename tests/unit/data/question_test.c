/* Question files: every form that is read, every reason that makes a row unusable, and the published files where
 * present. */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/data/question.h"

static char scratch[] = "/tmp/candor-question-XXXXXX";

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state) {
    (void)state;
    return fs_remove_tree(scratch) == STATUS_OK ? 0 : -1;
}

static const char *put(const char *name, const char *text, size_t bytes) {
    static char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, scratch, name));
    ASSERT_OK(fs_write_atomic(path, text, bytes));
    return path;
}

static struct question_counts counts;
static struct buf unusable;

static void note_unusable(void *user, const char *path, uint64_t row, enum unusable reason, const char *detail) {
    (void)user;
    (void)path;
    (void)detail;
    buf_printf(&unusable, "%llu:%s ", (unsigned long long)row, unusable_name(reason));
}

/* The file's usable questions as lines of Candor's form, the rest in `unusable`. */
static const char *read_text(const char *name, const char *text) {
    static struct buf lines;
    struct question_set set;
    struct question_events events = {.unusable = note_unusable};
    const char *path = put(name, text, strlen(text));
    buf_reset(&unusable);
    buf_reset(&lines);
    ASSERT_OK(question_set_load(&path, 1, &events, &set, &counts));
    for (uint32_t i = 0; i < set.count; i++)
        question_put(&set.questions[i], &lines);
    question_set_deinit(&set);
    assert_true(buf_ok(&lines));
    return lines.data;
}

static void simpleqa_csv_with_its_python_dict(void **state) {
    (void)state;
    assert_string_equal(read_text("a.csv", "metadata,problem,answer\n"
                                           "\"{'topic': 'Art', 'answer_type': 'Person', 'urls': ['https://x/y', "
                                           "\"\"it's}\"\"]}\",\"Who, \"\"he\"\"?\","
                                           "A \"\"B\n"
                                           "\"{'urls': [\"\"'topic': 'no'\"\"], 'answer_type': \"\"O'Neil \\\\ x\"\", "
                                           "'topic': 'T\\'s'}\",\"Two\nlines?\",7\n"),
                        "{\"id\": \"bcb3d4139d1f9295\", \"set\": \"simpleqa\", \"question\": \"Who, \\\"he\\\"?\", "
                        "\"aliases\": [\"A \\\"\\\"B\"], "
                        "\"metadata\": {\"topic\": \"Art\", \"answer_type\": \"Person\"}}\n"
                        "{\"id\": \"e3e1eba954f58deb\", \"set\": \"simpleqa\", \"question\": \"Two\\nlines?\", "
                        "\"aliases\": [\"7\"], \"metadata\": "
                        "{\"answer_type\": \"O'Neil \\\\ x\", \"topic\": \"T's\"}}\n");
}

static void popqa_tsv_with_lists_in_cells(void **state) {
    (void)state;
    assert_string_equal(
        read_text("x.tsv",
                  "id\tsubj\tprop\tquestion\tpossible_answers\r\n"
                  "42\tGeorge\toccupation\tWhat is it?\t\"[\"\"politician\"\", \"\"pol\\u00e9\"\", \"\"pol\"\", "
                  "\"\"politician\"\"]\"\r\n"
                  "43\tG\tcolor\tWhich 5\"?\t[not json\r\n"),
        "{\"id\": \"42\", \"set\": \"popqa\", \"question\": \"What is it?\", \"aliases\": [\"politician\", "
        "\"pol\xC3\xA9\", \"pol\"], \"metadata\": {\"prop\": \"occupation\"}}\n"
        "{\"id\": \"43\", \"set\": \"popqa\", \"question\": \"Which 5\\\"?\", \"aliases\": [\"[not json\"], "
        "\"metadata\": {\"prop\": \"color\"}}\n");
}

static void selfaware_keeps_what_cannot_be_answered(void **state) {
    (void)state;
    assert_string_equal(
        read_text("s.json", "\xEF\xBB\xBF{\"dataset_name\": \"SelfAware\", \"keywords\": [\"a\"], \"example\": [\n"
                            "{\"question_id\": 1, \"question\": \"Q?\", \"answer\": [\"x\"], \"answerable\": true},\n"
                            "{\"question_id\": 2, \"question\": \"Why?\", \"answer\": null, \"answerable\": false}]}"),
        "{\"id\": \"1\", \"set\": \"selfaware\", \"question\": \"Q?\", \"aliases\": [\"x\"]}\n"
        "{\"id\": \"2\", \"set\": \"selfaware\", \"question\": \"Why?\", \"aliases\": [], \"answerable\": false}\n");
}

static void triviaqa_original_gives_all_aliases(void **state) {
    (void)state;
    assert_string_equal(
        read_text("t.json",
                  "{\"Data\": [{\"Question\": \"Where?\", \"QuestionId\": \"tc_3\", \"EntityPages\": [{}], \"Answer\": "
                  "{\"Aliases\": [\"Yorkshire\", \"York (city)\"], \"NormalizedAliases\": [\"york city\"], \"Value\": "
                  "\"York\", \"NormalizedValue\": \"york\", \"MatchedWikiEntityName\": \"York\", \"HumanAnswers\": "
                  "[\"Eboracum\"], \"Type\": \"W\"}}], \"Domain\": \"Web\"}"),
        "{\"id\": \"tc_3\", \"set\": \"triviaqa\", \"question\": \"Where?\", \"aliases\": [\"York\", \"york\", "
        "\"Yorkshire\", "
        "\"York (city)\", \"york city\", \"Eboracum\"]}\n");
}

static void json_lines_of_many_makes(void **state) {
    (void)state;
    assert_string_equal(
        read_text("triviaqa_small.jsonl", "{\"id\": \"test_1\", \"question\": \"\\\"Who said "
                                          "\\\"\\\"no\\\"\\\"?\\\"\", \"golden_answers\": [\"I\"]}\n"
                                          "\n"
                                          "{\"qid\": \"p\", \"dataset\": \"mine\", \"question\": \"Q\", "
                                          "\"gold_answer\": \"G\", \"aliases\": [\"H\", \"G\"]}\n"
                                          "{\"input\": \"In?\", \"output\": \"[\\\"o\\\", \\\"p\\\"]\", \"id\": 7}\n"
                                          "{\"prompt\": \"P?\", \"label\": \"NEC\"}\n"
                                          "{\"prompt\": \"P2?\", \"label\": [\"l\"]}\n"),
        "{\"id\": \"test_1\", \"set\": \"triviaqa\", \"question\": \"Who said \\\"no\\\"?\", \"aliases\": [\"I\"]}\n"
        "{\"id\": \"p\", \"set\": \"mine\", \"question\": \"Q\", \"aliases\": [\"G\", \"H\"]}\n"
        "{\"id\": \"7\", \"set\": \"triviaqa\", \"question\": \"In?\", \"aliases\": [\"o\", \"p\"]}\n"
        "{\"id\": \"c4f2d79cce986e2b\", \"set\": \"triviaqa\", \"question\": \"P?\", \"aliases\": [], \"answerable\": "
        "false}\n"
        "{\"id\": \"cfacd92686f9b26f\", \"set\": \"triviaqa\", \"question\": \"P2?\", \"aliases\": [\"l\"]}\n");
}

static void candors_own_form_comes_back_the_same(void **state) {
    (void)state;
    const char *text =
        "{\"id\": \"w-1\", \"set\": \"world\", \"question\": \"Where \\u0001?\", \"aliases\": [\"Oak \\\"x\\\"\"], "
        "\"class\": "
        "\"sometimes\", \"split\": \"train\", \"metadata\": {\"a\":[1,{\"b\":null}]}}\n"
        "{\"id\": \"w-2\", \"set\": \"world\", \"question\": \"Q\", \"aliases\": [], \"answerable\": false}\n";
    assert_string_equal(read_text("own.jsonl", text), text);
    char again[4096];
    snprintf(again, sizeof again, "%s", read_text("own.jsonl", text));
    assert_string_equal(read_text("own2.jsonl", again), text);
}

static void every_unusable_row_is_counted_by_its_reason(void **state) {
    (void)state;
    read_text("bad.jsonl", "{\"question\": \"fine\", \"answer\": \"a\"}\n"
                           "{\"question\": \"broken\"\n"
                           "[1, 2]\n"
                           "{\"question\": \" \", \"answer\": \"a\"}\n"
                           "{\"question\": \"no answer\", \"answer\": []}\n"
                           "{\"question\": \"null\", \"answer\": null}\n"
                           "{\"question\": \"Unknown\", \"answer\": \"UNKNOWN.\"}\n"
                           "{\"question\": \"bytes \xC3\", \"answer\": \"a\"}\n"
                           "{\"question\": 1.5, \"answer\": \"a\"}\n"
                           "{\"question\": \"x\", \"answer\": \"a\", \"answerable\": false}\n"
                           "{\"question\": \"x\", \"answer\": [true]}\n");
    assert_string_equal(unusable.data,
                        "2:malformed 3:malformed 4:no-question 5:no-answer 6:no-answer 7:unknown-gold 8:not-utf8 "
                        "9:malformed 10:malformed 11:malformed ");
    assert_int_equal(counts.rows, 11);
    assert_int_equal(counts.used, 1);
    uint64_t sum = counts.used;
    for (int i = 0; i < UNUSABLE_COUNT; i++)
        sum += counts.unusable[i];
    assert_int_equal(sum, counts.rows);
    read_text("bad.csv", "problem,answer\nfine,a\nq\nq,a,b\n,a\nq,\n\"\xFF\",a\n");
    assert_string_equal(unusable.data, "3:malformed 4:malformed 5:no-question 6:no-answer 7:not-utf8 ");
}

static void refuse(const char *name, const char *text, size_t bytes, enum status status, const char *says) {
    struct question_events events = {0};
    struct question_counts unused;
    ASSERT_FAILS(status, question_read(put(name, text, bytes), &events, &unused));
    if (!strstr(status_message(), says))
        fail_msg("\"%s\" does not say \"%s\"", status_message(), says);
}

static void files_of_no_format_are_refused(void **state) {
    (void)state;
    struct question_events events = {0};
    struct question_counts unused;
    refuse("empty", "", 0, STATUS_FORMAT, "empty");
    refuse("prose.txt", "Once upon a time\n", 17, STATUS_FORMAT, "none of the formats");
    refuse("cut.json", "{\"Data\": [\n{\"Question\": \"Q\"", 27, STATUS_FORMAT, "byte");
    refuse("cut2.json", "[{\"question\": \"Q\", \"answer\": \"a\"},", 34, STATUS_FORMAT, "byte");
    refuse("after.json", "[{\"question\": \"Q\", \"answer\": \"a\"}]x", 35, STATUS_FORMAT, "after the end");
    refuse("map.json", "{\n\"a\": \"b\"}", 11, STATUS_FORMAT, "array of objects");
    refuse("quote.csv", "problem,answer\n\"never closed,a\n", 31, STATUS_FORMAT, "inside quotes");
    ASSERT_FAILS(STATUS_NOT_FOUND, question_read("/no/such/file", &events, &unused));
}

static void an_unclosed_quote_ends_at_the_limit(void **state) {
    (void)state;
    size_t bytes = QUESTION_ROW_BYTES_MAX + (1u << 20);
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, 'x', bytes);
    memcpy(text, "problem,answer\n\"", 16);
    refuse("long.csv", text, bytes, STATUS_LIMIT, "never closed");
    free(text);
}

static void a_set_can_be_named(void **state) {
    (void)state;
    char argument[PATH_BYTES + 8];
    const char *arguments[] = {argument};
    struct question_set set;
    snprintf(argument, sizeof argument, "mine=%s",
             put("n.jsonl", "{\"question\": \"Q\", \"answer\": \"a\", \"set\": \"other\"}\n", 49));
    ASSERT_OK(question_set_load(arguments, 1, NULL, &set, NULL));
    assert_string_equal(set.questions[0].set, "mine");
    question_set_deinit(&set);
    assert_null(set.questions);
}

/* As `data mix` writes them: one set after another. */
static void a_limit_takes_the_first_of_each_set_evenly(void **state) {
    (void)state;
    static const char text[] = "{\"set\": \"a\", \"question\": \"a1\", \"answer\": \"x\"}\n"
                               "{\"set\": \"a\", \"question\": \"a2\", \"answer\": \"x\"}\n"
                               "{\"set\": \"a\", \"question\": \"a3\", \"answer\": \"x\"}\n"
                               "{\"set\": \"b\", \"question\": \"b1\", \"answer\": \"x\"}\n"
                               "{\"set\": \"c\", \"question\": \"c1\", \"answer\": \"x\"}\n"
                               "{\"set\": \"c\", \"question\": \"c2\", \"answer\": \"x\"}\n";
    static const struct {
        uint64_t limit;
        const char *kept;
    } cases[] = {{0, "a1a2a3b1c1c2"}, {1, "a1"}, {3, "a1b1c1"}, {5, "a1a2b1c1c2"}, {6, "a1a2a3b1c1c2"}, {99, "a1a2a3b1c1c2"}};
    const char *paths[] = {put("limit.jsonl", text, sizeof text - 1)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct question_set set;
        char kept[64] = "";
        ASSERT_OK(question_set_load(paths, 1, NULL, &set, NULL));
        question_set_limit(&set, cases[i].limit);
        for (uint32_t q = 0; q < set.count; q++)
            strcat(kept, set.questions[q].text);
        assert_string_equal(kept, cases[i].kept);
        question_set_deinit(&set);
    }
}

static void the_hash_depends_on_set_text_and_aliases(void **state) {
    (void)state;
    const char *ab[] = {"a", "b"}, *joined[] = {"ab"};
    struct question one = {.id = "1", .set = "s", .text = "q", .aliases = ab, .alias_count = 2}, other = one;
    other.id = "2";
    assert_true(question_hash(&one) == question_hash(&other));
    other.aliases = joined;
    other.alias_count = 1;
    assert_true(question_hash(&one) != question_hash(&other));
    other = one;
    other.alias_count = 1;
    assert_true(question_hash(&one) != question_hash(&other));
    other = one;
    other.set = "sq";
    other.text = "";
    assert_true(question_hash(&one) != question_hash(&other));
}

static void published_files_are_read_whole(void **state) {
    (void)state;
    static const struct {
        const char *file, *set;
        uint32_t rows, used, unanswerable;
    } files[] = {
        {"simpleqa/simple_qa_test_set.csv", "simpleqa", 4326, 4326, 0},
        {"popqa/popQA_subset.tsv", "popqa", 1936, 1936, 0},
        {"popqa/popqa_flashrag_1000.jsonl", "popqa", 1000, 1000, 0},
        {"popqa/popqa_model_collaboration.json", "popqa", 2000, 2000, 0},
        {"selfaware/SelfAware.json", "selfaware", 3369, 3369, 1032},
        {"triviaqa/triviaqa_flashrag_1000.jsonl", "triviaqa", 1000, 1000, 0},
        {"triviaqa/original_wikipedia-train.json", "triviaqa", 4, 4, 0},
        {"triviaqa/original_web-dev.json", "triviaqa", 2, 2, 0},
        {"triviaqa/triviaqa_persona_study.json", "triviaqa", 150, 150, 0},
        {"nq/NQ-open.dev.jsonl", "nq", 3610, 3608, 0},
        {"honesty/puqa.jsonl", "puqa", 1000, 1000, 1000},
        {"abstention/RefuNQ_unanswerable.json", "RefuNQ_unanswerable", 2173, 2173, 2173},
    };
    if (!fs_exists(SHARED_DATA "/simpleqa"))
        SKIP("no ../shared/data");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[PATH_BYTES];
        const char *paths[] = {path};
        struct question_set set;
        ASSERT_OK(fs_join(path, SHARED_DATA, files[i].file));
        ASSERT_OK(question_set_load(paths, 1, NULL, &set, &counts));
        uint32_t unanswerable = 0;
        for (uint32_t q = 0; q < set.count; q++) {
            unanswerable += !set.questions[q].answerable;
            assert_string_equal(set.questions[q].set, files[i].set);
        }
        assert_int_equal(counts.rows, files[i].rows);
        assert_int_equal(counts.used, files[i].used);
        assert_int_equal(unanswerable, files[i].unanswerable);
        question_set_deinit(&set);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simpleqa_csv_with_its_python_dict),
        cmocka_unit_test(popqa_tsv_with_lists_in_cells),
        cmocka_unit_test(selfaware_keeps_what_cannot_be_answered),
        cmocka_unit_test(triviaqa_original_gives_all_aliases),
        cmocka_unit_test(json_lines_of_many_makes),
        cmocka_unit_test(candors_own_form_comes_back_the_same),
        cmocka_unit_test(every_unusable_row_is_counted_by_its_reason),
        cmocka_unit_test(files_of_no_format_are_refused),
        cmocka_unit_test(an_unclosed_quote_ends_at_the_limit),
        cmocka_unit_test(a_set_can_be_named),
        cmocka_unit_test(a_limit_takes_the_first_of_each_set_evenly),
        cmocka_unit_test(the_hash_depends_on_set_text_and_aliases),
        cmocka_unit_test(published_files_are_read_whole),
    };
    return cmocka_run_group_tests_name("question", tests, make_scratch, remove_scratch);
}
