/* The option table, the INI file, the environment, --set: precedence, messages, printing. */
#include "tests/support/test.h"

#include <limits.h>
#include <unistd.h>

#include "common/base/config.h"
#include "common/base/fs.h"
#include "common/base/rng.h"
#include "common/base/run_config.h"

struct sample {
    int64_t count;
    double rate;
    bool on;
    char text[CONFIG_TEXT_BYTES];
    int64_t kind;
    char path[CONFIG_TEXT_BYTES];
};

static const struct config_option sample_options[] = {
    {"a", "count", OPTION_INT, SCOPE_RESULT, offsetof(struct sample, count), "20", 1, 256, "answers", NULL, "how many"},
    {"a", "rate", OPTION_REAL, SCOPE_RESULT, offsetof(struct sample, rate), "1e-6", 0, 1, "", NULL, "how fast"},
    {"b", "on", OPTION_BOOL, SCOPE_RESULT, offsetof(struct sample, on), "no", 0, 0, "", NULL, "whether"},
    {"b", "text", OPTION_TEXT, SCOPE_RESULT, offsetof(struct sample, text), "", 0, 0, "", NULL, "what"},
    {"a", "kind", OPTION_CHOICE, SCOPE_RESULT, offsetof(struct sample, kind), "red", 0, 0, "", "red|green|blue",
     "which"},
    {"b", "path", OPTION_TEXT, SCOPE_HOST, offsetof(struct sample, path), "/tmp", 0, 0, "", NULL, "where"},
};
static const struct option_table table = {sample_options, 6, sizeof(struct sample)};

static struct sample sample;

static int set_up(void **state) {
    (void)state;
    return config_defaults(&table, &sample) == STATUS_OK ? 0 : -1;
}

static void refuse(const char *text, const char *message) {
    struct sample before = sample;
    assert_int_equal(config_read_text(&table, &sample, "x.ini", text), STATUS_CONFIG);
    assert_string_equal(status_message(), message);
    assert_memory_equal(&before, &sample, sizeof sample);
}

static void accept(const char *text) {
    enum status status = config_read_text(&table, &sample, "x.ini", text);
    if (status != STATUS_OK)
        fail_msg("%s", status_message());
}

static void defaults_are_those_of_the_table(void **state) {
    (void)state;
    assert_int_equal(sample.count, 20);
    assert_true(sample.rate == 1e-6);
    assert_false(sample.on);
    assert_string_equal(sample.text, "");
    assert_int_equal(sample.kind, 0);
    assert_string_equal(sample.path, "/tmp");
}

static void a_file_sets_what_it_names(void **state) {
    (void)state;
    accept("# comment\n[a]\ncount = 7 ; inline\nrate=2.5e-1\r\nkind = blue\n\n[b]\non = Yes\ntext = one\\ntwo\n");
    assert_int_equal(sample.count, 7);
    assert_true(sample.rate == 0.25);
    assert_int_equal(sample.kind, 2);
    assert_true(sample.on);
    assert_string_equal(sample.text, "one\ntwo");
    assert_string_equal(sample.path, "/tmp");
}

static void each_mistake_in_a_file_has_its_message(void **state) {
    (void)state;
    refuse("[a]\ncount = many\n",
           "x.ini:2: a.count = many: not a whole number; right would be a whole number, 1 to 256 answers");
    refuse("[a]\ncount = 1.5\n",
           "x.ini:2: a.count = 1.5: not a whole number; right would be a whole number, 1 to 256 answers");
    refuse("[a]\ncount = \n",
           "x.ini:2: a.count = : not a whole number; right would be a whole number, 1 to 256 answers");
    refuse(
        "[a]\ncount = 99999999999999999999\n",
        "x.ini:2: a.count = 99999999999999999999: not a whole number; right would be a whole number, 1 to 256 answers");
    refuse("[a]\n\ncount = 257\n",
           "x.ini:3: a.count = 257: out of range; right would be a whole number, 1 to 256 answers");
    refuse("[a]\nrate = -0.1\n", "x.ini:2: a.rate = -0.1: out of range; right would be a number, 0 to 1");
    refuse("[a]\nrate = nan\n", "x.ini:2: a.rate = nan: not a number; right would be a number, 0 to 1");
    refuse("[b]\non = maybe\n", "x.ini:2: b.on = maybe: neither yes nor no; right would be yes or no");
    refuse("[a]\nkind = pink\n", "x.ini:2: a.kind = pink: no such choice; right would be one of red, green, blue");
    refuse("[a]\nkind = re\n", "x.ini:2: a.kind = re: no such choice; right would be one of red, green, blue");
    refuse("[a]\nkind = red|green\n",
           "x.ini:2: a.kind = red|green: no such choice; right would be one of red, green, blue");
    refuse("[a]\ncuont = 3\n", "x.ini:2: a.cuont: no such option; did you mean a.count?");
    refuse("[b]\ncount = 3\n", "x.ini:2: b.count: no such option; did you mean a.count?");
    refuse("[zebra]\nstripes = 3\n",
           "x.ini:2: zebra.stripes: no such option; `candor-learner --print-config` lists all of them");
    refuse("count = 3\n", "x.ini:1: count: stands before any [section]");
    refuse("[a]\ncount = 3\n# x\ncount = 3\n", "x.ini:4: a.count: given twice; it stands in line 2 already");
    refuse("[a]\ncount\n", "x.ini:2: right would be [section], key = value or a # comment");
    refuse("[a\ncount = 1\n", "x.ini:1: right would be [section], with a ]");
    refuse("[a]\ncount = 3\n  rate = 1\n",
           "x.ini:3: indented, so it would continue a.count, which is not a text; begin "
           "keys in the first column");
    refuse("[b]\ntext = \\boxed{}\n", "x.ini:2: b.text = ...\\boxed{}: no such escape; right would be \\\\ for a "
                                      "backslash, \\n for a line feed, \\t, \\s, \\;, \\# or \\xNN");
    /* the first mistake is the one that is told, and a value that was right before it changes nothing */
    refuse("[a]\ncount = 3\nrate = 7\nkind = pink\n",
           "x.ini:3: a.rate = 7: out of range; right would be a number, 0 to 1");
}

static void a_line_that_is_too_long_is_named(void **state) {
    (void)state;
    char text[600] = "[b]\n# ";
    size_t used = strlen(text);
    memset(text + used, 'c', 300); /* a comment may be */
    strcpy(text + used + 300, "\ntext = ");
    used = strlen(text);
    memset(text + used, 'v', 192);
    text[used + 192] = '\0';
    refuse(text, "x.ini:3: line of 199 bytes; at most 198 are right: continue a long text on the next line, indented");
    text[used + 191] = '\0';
    accept(text);
    assert_int_equal(strlen(sample.text), 191);
}

static void an_indented_line_continues_a_text(void **state) {
    (void)state;
    accept("[b]\ntext = one two\n  three\n\tfour\\\n    five\\\\\n six = 6\npath = p\n");
    assert_string_equal(sample.text, "one two three fourfive\\ six = 6");
    assert_string_equal(sample.path, "p");
}

static void a_text_that_is_too_long_is_refused(void **state) {
    (void)state;
    struct buf text = {0};
    buf_puts(&text, "[b]\ntext = x\n");
    for (int i = 0; i < 42; i++)
        buf_puts(&text, " 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 "
                        "12345678\n");
    assert_int_equal(config_read_text(&table, &sample, "x.ini", text.data), STATUS_CONFIG);
    assert_non_null(strstr(status_message(), "x.ini:2: b.text = x 123456789"));
    assert_non_null(strstr(status_message(), "longer than 4095 bytes"));
    buf_deinit(&text);
}

static void file_then_environment_then_set(void **state) {
    (void)state;
    accept("[a]\ncount = 1\nrate = 0.1\nkind = green\n");
    setenv("CANDOR_A_RATE", "0.2", 1);
    setenv("CANDOR_A_KIND", "blue", 1);
    setenv("CANDOR_OTHER", "ignored", 1);
    assert_int_equal(config_read_environment(&table, &sample), STATUS_OK);
    assert_int_equal(config_set(&table, &sample, "a.kind=red"), STATUS_OK);
    unsetenv("CANDOR_A_RATE");
    unsetenv("CANDOR_A_KIND");
    assert_int_equal(sample.count, 1);
    assert_true(sample.rate == 0.2);
    assert_int_equal(sample.kind, 0);
}

static void mistakes_outside_the_file_name_their_place(void **state) {
    (void)state;
    setenv("CANDOR_A_RATE", "fast", 1);
    assert_int_equal(config_read_environment(&table, &sample), STATUS_CONFIG);
    assert_string_equal(status_message(),
                        "environment: CANDOR_A_RATE: a.rate = fast: not a number; right would be a number, 0 to 1");
    unsetenv("CANDOR_A_RATE");
    setenv("CANDOR_A_RAET", "0.5", 1);
    assert_int_equal(config_read_environment(&table, &sample), STATUS_CONFIG);
    assert_string_equal(status_message(), "environment: CANDOR_A_RAET: a.raet: no such option; did you mean a.rate?");
    unsetenv("CANDOR_A_RAET");
    assert_int_equal(config_set(&table, &sample, "a.count=0"), STATUS_CONFIG);
    assert_string_equal(status_message(),
                        "--set a.count = 0: out of range; right would be a whole number, 1 to 256 answers");
    assert_int_equal(config_set(&table, &sample, "count"), STATUS_CONFIG);
    assert_string_equal(status_message(), "--set count: right would be --set section.key=value");
    assert_int_equal(config_set(&table, &sample, "=a.b"), STATUS_CONFIG);
    assert_int_equal(config_set(&table, &sample, "a.cout=1"), STATUS_CONFIG);
    assert_string_equal(status_message(), "--set a.cout: no such option; did you mean a.count?");
    assert_int_equal(sample.count, 20);
}

static void check_round_trip(const char *text, bool with_help) {
    struct sample back;
    struct buf printed = {0};
    memset(sample.text, 0, sizeof sample.text);
    memcpy(sample.text, text, strlen(text));
    sample.rate = 0.1 + 0.2;
    config_print(&table, &sample, with_help, &printed);
    assert_int_equal(config_defaults(&table, &back), STATUS_OK);
    if (config_read_text(&table, &back, "printed", printed.data) != STATUS_OK)
        fail_msg("%s\n%s", status_message(), printed.data);
    assert_string_equal(back.text, sample.text);
    assert_memory_equal(&back, &sample, sizeof back);
    buf_deinit(&printed);
}

static void what_is_printed_reads_back_the_same(void **state) {
    (void)state;
    check_round_trip("", true);
    check_round_trip(" a ; b  c \\ \t\n\n#x \x01\x7f=: [s] ", true);
    check_round_trip("; first", false);
    char text[CONFIG_TEXT_BYTES];
    memset(text, 'w', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    check_round_trip(text, false);
    memset(text, '\\', sizeof text - 1);
    check_round_trip(text, false);
    memset(text, 0xbf, sizeof text - 1); /* not UTF-8 */
    check_round_trip(text, false);
    static const char alphabet[] = "ab  \\;#\n\t=[]\"\xc3\xa9\x01";
    for (uint32_t round = 0; round < 200; round++) {
        struct rng_key key = {.seed = 7, .stream = RNG_TEST, .step = round};
        uint32_t bytes = rng_below(&key, 0, 500);
        for (uint32_t i = 0; i < bytes; i++)
            text[i] = alphabet[rng_below(&key, i + 1, sizeof alphabet - 1)];
        text[bytes] = '\0';
        check_round_trip(text, round % 2 == 0);
    }
}

static struct digest digest_of(const struct sample *of) {
    struct digest digest;
    assert_int_equal(config_digest(&table, of, &digest), STATUS_OK);
    return digest;
}

static void the_digest_covers_exactly_what_changes_the_result(void **state) {
    (void)state;
    struct digest before = digest_of(&sample);
    struct sample other = sample;
    strcpy(other.path, "/elsewhere");
    assert_true(digest_equal(before, digest_of(&other)));
    static const char *const changes[] = {"a.count=21", "a.rate=2e-6", "b.on=yes", "b.text=x", "a.kind=green"};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        other = sample;
        assert_int_equal(config_set(&table, &other, changes[i]), STATUS_OK);
        assert_false(digest_equal(before, digest_of(&other)));
    }
}

static void differences_are_listed(void **state) {
    (void)state;
    struct sample other = sample;
    struct buf out = {0};
    assert_int_equal(config_diff(&table, &sample, &other, &out), 0);
    other.count = 21;
    strcpy(other.text, "a\nb");
    strcpy(other.path, "/elsewhere");
    assert_int_equal(config_diff(&table, &sample, &other, &out), 2);
    assert_string_equal(out.data, "a.count: 20 -> 21\nb.text: (empty) -> a\\nb\n");
    buf_deinit(&out);
}

/* ---- the run's own table ---- */

static void the_run_table_is_sound(void **state) {
    (void)state;
    for (size_t i = 0; i < run_options.count; i++) {
        const struct config_option *a = &run_options.options[i];
        assert_true(strlen(a->help) > 0 && strlen(a->help) < 190);
        if (a->type == OPTION_INT || a->type == OPTION_REAL)
            assert_true(a->least < a->most);
        for (size_t j = 0; j < i; j++) {
            const struct config_option *b = &run_options.options[j];
            if (strcmp(a->section, b->section) == 0 && strcmp(a->key, b->key) == 0)
                fail_msg("%s.%s stands twice in run_options.def", a->section, a->key);
        }
    }
    struct run_config *config = NULL;
    assert_int_equal(run_config_load(NULL, NULL, 0, &config), STATUS_OK);
    assert_int_equal(config->sample_group, 20);
    assert_true(config->optim_lr == 1e-6);
    struct buf printed = {0};
    config_print(&run_options, config, true, &printed);
    struct run_config *back = malloc(sizeof *back);
    assert_non_null(back);
    assert_int_equal(config_defaults(&run_options, back), STATUS_OK);
    if (config_read_text(&run_options, back, "printed", printed.data) != STATUS_OK)
        fail_msg("%s", status_message());
    assert_memory_equal(back, config, sizeof *back);
    buf_deinit(&printed);
    free(back);
    free(config);
}

static void a_missing_file_is_a_configuration_error(void **state) {
    (void)state;
    struct run_config *config = NULL;
    assert_int_equal(run_config_load("/nonexistent/candor.ini", NULL, 0, &config), STATUS_CONFIG);
    assert_string_equal(status_message(), "/nonexistent/candor.ini: no such file");
    assert_null(config);
}

static void the_trl_preset_changes_defaults_but_not_what_is_said(void **state) {
    (void)state;
    const char *assignments[] = {"loss.preset=trl", "loss.kl=0.04"};
    struct run_config *config = NULL;
    assert_int_equal(run_config_load(NULL, assignments, 2, &config), STATUS_OK);
    assert_int_equal(config->loss_preset, LOSS_PRESET_TRL);
    assert_true(config->loss_clip_high == 0.2 && config->loss_dual_clip == 0 && config->loss_kl == 0.04);
    assert_int_equal(config->optim_schedule, SCHEDULE_LINEAR);
    free(config);
}

static void options_that_contradict_each_other_are_refused(void **state) {
    (void)state;
    struct run_config *config = NULL;
    const char *lease[] = {"hub.lease_ms=2000"}, *anchored[] = {"reward.rule=anchored"}, *eval[] = {"eval.every=5"};
    assert_int_equal(run_config_load(NULL, lease, 1, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_message(), "hub.lease_ms = 2000"));
    assert_int_equal(run_config_load(NULL, anchored, 1, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_message(), "data.knowledge"));
    assert_int_equal(run_config_load(NULL, eval, 1, &config), STATUS_CONFIG);
    assert_non_null(strstr(status_message(), "data.eval"));
    assert_null(config);
}

static struct run_config *with(const char *assignment) {
    struct run_config *config = NULL;
    assert_int_equal(run_config_load(NULL, &assignment, 1, &config), STATUS_OK);
    return config;
}

static struct digest run_digest_of(const struct run_config *config) {
    struct digest digest;
    assert_int_equal(run_config_digest(config, &digest), STATUS_OK);
    return digest;
}

static void run_steps_decide_bits_only_where_the_schedule_ends_there(void **state) {
    (void)state;
    struct run_config *standard = with("log.level=info"), *longer = with("run.steps=201");
    struct buf out = {0};
    assert_true(digest_equal(run_digest_of(standard), run_digest_of(longer)));
    assert_int_equal(run_config_diff(standard, longer, &out), 0);
    standard->optim_schedule = longer->optim_schedule = SCHEDULE_COSINE;
    assert_false(digest_equal(run_digest_of(standard), run_digest_of(longer)));
    assert_int_equal(run_config_diff(standard, longer, &out), 1);
    assert_string_equal(out.data, "run.steps: 200 -> 201, where optim.schedule ends\n");
    buf_deinit(&out);
    free(standard);
    free(longer);
}

static void names_of_files_are_made_absolute(void **state) {
    (void)state;
    char here[PATH_MAX], expected[3 * PATH_MAX];
    struct run_config *config = with("data.train=.:/no/such/file:absent/file");
    assert_non_null(realpath(".", here));
    assert_int_equal(config_set(&run_options, config, "model.path=/proc/self/.."), STATUS_OK);
    assert_int_equal(run_config_make_absolute(config), STATUS_OK);
    snprintf(expected, sizeof expected, "%s:/no/such/file:%s/absent/file", here, here);
    assert_string_equal(config->data_train, expected);
    assert_string_equal(config->model_path, "/proc");
    assert_string_equal(config->data_eval, "");
    free(config);
    char longest[CONFIG_TEXT_BYTES] = "data.eval=";
    memset(longest + 10, 'x', 3000);
    for (size_t i = 12; i < 3000; i += 2)
        longest[i] = ':';
    config = with(longest);
    assert_int_equal(run_config_make_absolute(config), STATUS_LIMIT);
    assert_non_null(strstr(status_message(), "data.eval"));
    free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_are_those_of_the_table, set_up),
        cmocka_unit_test_setup(a_file_sets_what_it_names, set_up),
        cmocka_unit_test_setup(each_mistake_in_a_file_has_its_message, set_up),
        cmocka_unit_test_setup(a_line_that_is_too_long_is_named, set_up),
        cmocka_unit_test_setup(an_indented_line_continues_a_text, set_up),
        cmocka_unit_test_setup(a_text_that_is_too_long_is_refused, set_up),
        cmocka_unit_test_setup(file_then_environment_then_set, set_up),
        cmocka_unit_test_setup(mistakes_outside_the_file_name_their_place, set_up),
        cmocka_unit_test_setup(what_is_printed_reads_back_the_same, set_up),
        cmocka_unit_test_setup(the_digest_covers_exactly_what_changes_the_result, set_up),
        cmocka_unit_test_setup(differences_are_listed, set_up),
        cmocka_unit_test(the_run_table_is_sound),
        cmocka_unit_test(a_missing_file_is_a_configuration_error),
        cmocka_unit_test(the_trl_preset_changes_defaults_but_not_what_is_said),
        cmocka_unit_test(options_that_contradict_each_other_are_refused),
        cmocka_unit_test(run_steps_decide_bits_only_where_the_schedule_ends_there),
        cmocka_unit_test(names_of_files_are_made_absolute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
