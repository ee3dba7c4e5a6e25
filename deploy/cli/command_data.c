/* candor data: world, mix, sft, show. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/run_config.h"
#include "common/data/examples.h"
#include "common/data/mix.h"
#include "common/data/world.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/progress.h"
#include "deploy/cli/recipe.h"

static enum status data_world(int argc, char **argv) {
    struct world_options options;
    world_defaults(&options);
    int64_t seed = 1, always = options.always, sometimes = options.sometimes, never = options.never;
    const char *directory = NULL;
    const struct arg args[] = {
        {"seed", ARG_INT, &seed, "N", "which world (1)"},
        {"out", ARG_TEXT, &directory, "DIR", "where the files go"},
        {"always", ARG_INT, &always, "N", "facts that the texts always give"},
        {"sometimes", ARG_INT, &sometimes, "N", "facts that the texts give in a share of cases"},
        {"never", ARG_INT, &never, "N", "facts in no text"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor data world --out DIR [options]",
                  "Makes a small world of facts: questions, training texts, a tokenizer, a model's shape, and "
                  "candor.ini, which\n"
                  "`candor sft`, `candor eval` and `candor train` read as it is.",
                  args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    if (directory == NULL)
        return fail(STATUS_USAGE, "--out DIR is missing");
    if (seed < 0 || always < 0 || sometimes < 0 || never < 0 || always + sometimes + never > WORLD_FACTS_MAX)
        return fail(STATUS_USAGE, "seed and counts: not negative, at most %d facts in all", WORLD_FACTS_MAX);
    options.always = (uint32_t)always;
    options.sometimes = (uint32_t)sometimes;
    options.never = (uint32_t)never;
    TRY(world_write((uint64_t)seed, directory, &options));
    enum status status = recipe_write((uint64_t)seed, directory);
    if (status != STATUS_OK) {
        (void)fs_remove_tree(directory);
        return status;
    }
    printf("%s: %u facts always, %u sometimes, %u never in the texts\n", directory, options.always, options.sometimes,
           options.never);
    return STATUS_OK;
}

struct reading {
    struct progress progress;
    bool list_unusable;
};

static void show_progress(void *user, const char *path, uint64_t done, uint64_t total) {
    struct reading *reading = user;
    progress_update(&reading->progress, done, total, path);
}

static void show_unusable(void *user, const char *path, uint64_t row, enum unusable reason, const char *detail) {
    const struct reading *reading = user;
    if (reading->list_unusable)
        printf("%s:%" PRIu64 ": %s: %s\n", path, row, unusable_name(reason), detail);
}

static void print_counts(const struct question_counts *counts) {
    printf("rows %" PRIu64 ", usable %" PRIu64, counts->rows, counts->used);
    for (int i = 0; i < UNUSABLE_COUNT; i++)
        if (counts->unusable[i] > 0)
            printf(", %s %" PRIu64, unusable_name((enum unusable)i), counts->unusable[i]);
    printf("\n");
}

static enum status data_mix(int argc, char **argv) {
    struct arg_list inputs = {.count = 0}, against = {.count = 0};
    int64_t seed = 1, per_set = 0;
    double held_out = 0.2;
    struct reading reading = {.list_unusable = false};
    const char *directory = NULL;
    const struct arg args[] = {
        {"out", ARG_TEXT, &directory, "DIR", "gets train.jsonl, held-out.jsonl, manifest.json"},
        {"seed", ARG_INT, &seed, "N", "which questions are picked and held out (1)"},
        {"per-set", ARG_INT, &per_set, "N", "questions of each set (as many as the smallest has)"},
        {"held-out", ARG_REAL, &held_out, "SHARE", "share to hold out (0.2)"},
        {"against", ARG_LIST, &against, "FILE", "leave out the questions of this file"},
        {"list-unusable", ARG_FLAG, &reading.list_unusable, "", "one line for each row that cannot be used"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor data mix --out DIR [NAME=]FILE...",
                  "Mixes published question files evenly, without repeats, into a training and a held-out file.", args,
                  count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, &inputs));
    if (directory == NULL || inputs.count == 0)
        return fail(STATUS_USAGE, "--out DIR and at least one question file are needed");
    if (seed < 0 || per_set < 0 || per_set > QUESTION_COUNT_MAX || !(held_out >= 0 && held_out < 1))
        return fail(STATUS_USAGE, "--seed and --per-set: not negative; --held-out: 0 or more, below 1");
    const struct question_events events = {.unusable = show_unusable, .progress = show_progress, .user = &reading};
    const struct mix_options options = {.inputs = inputs.items,
                                        .input_count = inputs.count,
                                        .against = against.items,
                                        .against_count = against.count,
                                        .directory = directory,
                                        .seed = (uint64_t)seed,
                                        .per_set = (uint32_t)per_set,
                                        .held_out = held_out,
                                        .events = &events};
    static struct mix_report report;
    progress_begin(&reading.progress, "reading");
    enum status status = mix_write(&options, &report);
    if (status != STATUS_OK) {
        progress_abort(&reading.progress);
        return status;
    }
    progress_end(&reading.progress, "");
    for (uint32_t i = 0; i < report.set_count; i++) {
        const struct mix_set *set = &report.sets[i];
        printf("%-16s read %" PRIu64 ", repeats %" PRIu64 ", held elsewhere %" PRIu64 ", train %u, held out %u\n",
               set->name, set->read, set->duplicates, set->held_elsewhere, set->train, set->held_out);
    }
    print_counts(&report.counts);
    printf("%s: train %u, held out %u\n", directory, report.train, report.held_out);
    return STATUS_OK;
}

static enum status write_examples(struct examples_options *options, const char *config_path,
                                  const struct arg_list *set) {
    struct run_config *config = NULL;
    TRY(run_config_load(config_path, set->items, set->count, &config));
    struct reading reading = {.list_unusable = false};
    const struct question_events events = {.progress = show_progress, .user = &reading};
    struct examples_report report;
    options->system = config->prompt_system;
    options->events = &events;
    progress_begin(&reading.progress, "reading");
    enum status status = examples_write(options, &report);
    free(config);
    if (status != STATUS_OK) {
        progress_abort(&reading.progress);
        return status;
    }
    progress_end(&reading.progress, "");
    print_counts(&report.counts);
    printf("%s: %" PRIu64 " examples of %" PRIu64 " questions, %" PRIu64 " of them Unknown", options->path,
           report.examples, report.questions, report.unknown);
    if (report.unfit > 0)
        printf("; %" PRIu64 " questions left out: no answer that fits a box", report.unfit);
    printf("\n");
    return STATUS_OK;
}

static enum status data_sft(int argc, char **argv) {
    struct arg_list inputs = {.count = 0}, set = {.count = 0};
    int64_t seed = 1, limit = 0, draws = 1;
    double unknown = 0.15;
    const char *path = NULL, *config_path = NULL;
    const struct arg args[] = {
        {"out", ARG_TEXT, &path, "FILE", "the examples: JSONL of system, question, answer"},
        {"seed", ARG_INT, &seed, "N", "which examples say Unknown (1)"},
        {"limit", ARG_INT, &limit, "N", "questions to use, evenly from each set (all)"},
        {"draws", ARG_INT, &draws, "N", "examples of each question (1)"},
        {"unknown", ARG_REAL, &unknown, "SHARE", "share that says Unknown, of questions that can be answered (0.15)"},
        {"config", ARG_TEXT, &config_path, "FILE", "configuration: prompt.system is the examples' system prompt"},
        {"set", ARG_LIST, &set, "KEY=VALUE", "override a key of the configuration"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help(
            "candor data sft --out FILE [NAME=]FILE...",
            "Turns questions into examples for `candor sft`: the cold start, from which GRPO goes on. Answers are "
            "given in\n"
            "the form that the system prompt asks for, and a share of them is Unknown: what a model never says, GRPO\n"
            "cannot strengthen.",
            args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, &inputs));
    if (path == NULL || inputs.count == 0)
        return fail(STATUS_USAGE, "--out FILE and at least one question file are needed");
    if (seed < 0 || limit < 0 || draws < 1 || draws > EXAMPLES_DRAWS_MAX || !(unknown >= 0 && unknown <= 1))
        return fail(STATUS_USAGE, "--seed and --limit: not negative; --draws: 1 to %d; --unknown: 0 to 1",
                    EXAMPLES_DRAWS_MAX);
    struct examples_options options = {.inputs = inputs.items,
                                       .input_count = inputs.count,
                                       .path = path,
                                       .seed = (uint64_t)seed,
                                       .limit = (uint64_t)limit,
                                       .draws = (uint32_t)draws,
                                       .unknown = unknown};
    return write_examples(&options, config_path, &set);
}

static enum status data_show(int argc, char **argv) {
    struct arg_list files = {.count = 0};
    int64_t samples = 3;
    bool list_unusable = false;
    const struct arg args[] = {
        {"samples", ARG_INT, &samples, "N", "questions of each set to print (3)"},
        {"list-unusable", ARG_FLAG, &list_unusable, "", "one line for each row that cannot be used"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor data show FILE...", "What question files hold: sets, counts, unusable rows, samples.", args,
                  count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, &files));
    if (files.count == 0 || samples < 0 || samples > 1000)
        return fail(STATUS_USAGE, "at least one file, and 0 to 1000 samples");
    for (size_t i = 0; i < files.count; i++) {
        struct buf text = {0};
        const struct show_options options = {.samples = (uint32_t)samples, .list_unusable = list_unusable};
        enum status status = show_file(files.items[i], &options, &text);
        if (status == STATUS_OK && !buf_ok(&text))
            status = fail(STATUS_NO_MEMORY, "%s: out of memory", files.items[i]);
        if (status == STATUS_OK)
            fwrite(text.data, 1, text.bytes, stdout);
        buf_deinit(&text);
        TRY(status);
    }
    return STATUS_OK;
}

enum status command_data(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "world") == 0)
        return data_world(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "mix") == 0)
        return data_mix(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "sft") == 0)
        return data_sft(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "show") == 0)
        return data_show(argc - 1, argv + 1);
    if (!args_want_help(argc, argv))
        return fail(STATUS_USAGE, "%s: right would be world, mix, sft or show; --help tells what they do",
                    argc >= 2 ? argv[1] : "what to do is missing");
    args_help("candor data world|mix|sft|show [options]",
              "  world  make the demo's small world of facts\n  mix    mix published question files evenly\n"
              "  sft    turn questions into examples for `candor sft`\n  show   what a question file holds",
              NULL, 0);
    return STATUS_OK;
}
