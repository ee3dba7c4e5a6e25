/* candor eval: what a model knows, and what it says when it does not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/eval/krb.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/driver.h"
#include "learner/checkpoint.h"

/* Rounds draw different answers (driver.h). */
enum { ROUND_KNOWLEDGE = 1, ROUND_BASE_FORCED, ROUND_BASE, ROUND_EVAL };

struct eval_arguments {
    const char *config, *run, *model, *data, *out;
    struct arg_list set;
    bool knowledge;
    int64_t actors, rewards, threads;
};

/* ---- printing ---- */

static void print_shares(const char *label, const struct outcome_file *file, const struct outcome_filter *filter) {
    struct shares shares = outcome_shares(file, filter);
    if (shares.questions == 0)
        return;
    struct metrics metrics = shares_metrics(shares);
    printf("%-24s %6u   correct %.3f  Unknown %.3f  wrong %.3f   F %.3f  truthfulness %+.3f\n", label, shares.questions,
           shares.correct, shares.abstain, shares.wrong, metrics.f, metrics.truthfulness);
}

/* Each different value of the field that `get` reads, once. */
static void print_by(const struct outcome_file *file, char *const *(*get)(const struct outcome *), bool by_class) {
    for (uint32_t i = 0; i < file->count; i++) {
        const char *value = *get(&file->outcomes[i]);
        uint32_t j = 0;
        while (j < i && strcmp(*get(&file->outcomes[j]), value) != 0)
            j++;
        if (j < i || *value == 0)
            continue;
        print_shares(value, file,
                     &(struct outcome_filter){.class_label = by_class ? value : NULL, .set = by_class ? NULL : value});
    }
}

static char *const *class_of(const struct outcome *outcome) {
    return &outcome->class_label;
}

static char *const *set_of(const struct outcome *outcome) {
    return &outcome->set;
}

static void print_outcomes(const struct outcome_file *file) {
    print_shares("all", file, NULL);
    print_by(file, set_of, false);
    print_by(file, class_of, true);
    struct decomposition d = outcome_decomposition(file, NULL);
    printf("All Correct %.2f  Partial Correct %.2f  Partial Not Attempted %.2f  All Not Attempted %.2f  All Wrong %.2f "
           "(%%)\n",
           d.all_correct, d.partial_correct, d.partial_not_attempted, d.all_not_attempted, d.all_wrong);
}

/* KRB when the knowledge map and the base batch lie beside the evaluation. */
static void print_balance(const struct outcome_file *file, const char *directory, const struct run_config *config) {
    char knowledge_path[PATH_BYTES], base_path[PATH_BYTES];
    struct outcome_file *knowledge = NULL, *base = NULL;
    struct krb krb;
    if (fs_join(knowledge_path, directory, "knowledge.jsonl") != STATUS_OK ||
        fs_join(base_path, directory, "base-forced.jsonl") != STATUS_OK || !fs_exists(knowledge_path) ||
        !fs_exists(base_path))
        return;
    if (outcome_file_read(knowledge_path, &knowledge) == STATUS_OK &&
        outcome_file_read(base_path, &base) == STATUS_OK &&
        krb_compute(knowledge, base, file, NULL, (uint64_t)config->run_seed, (uint32_t)config->eval_draws, &krb) ==
            STATUS_OK)
        printf("C %.3f [%.3f, %.3f]  S %.3f [%.3f, %.3f]  KRB %.3f [%.3f, %.3f]  best by abstaining alone %.3f\n",
               krb.c.value, krb.c.low, krb.c.high, krb.s.value, krb.s.low, krb.s.high, krb.krb.value, krb.krb.low,
               krb.krb.high, krb.best_abstention);
    else
        printf("no balance: %s\n", status_message());
    outcome_file_destroy(&knowledge);
    outcome_file_destroy(&base);
}

/* ---- rounds ---- */

static enum status ask_and_write(struct driver *driver, const struct driver_round *round, const char *directory,
                                 const char *name, struct outcome_file **out_file) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory, name));
    struct outcome_file *file = NULL;
    TRY(driver_ask(driver, round, &file));
    enum status status = outcome_file_write(file, path);
    if (status == STATUS_OK && out_file != NULL)
        *out_file = file;
    else
        outcome_file_destroy(&file);
    return status;
}

/* The map itself, and the base's own answers under both prompts: the zero points of KRB and of every before/after. Written last to
 * first, so that knowledge.jsonl says that all three are there. */
static enum status map_knowledge(struct driver *driver, const struct run_config *config, const char *directory) {
    const struct driver_round rounds[] = {
        {.kind = "base",
         .title = "base, run's prompt",
         .system = config->prompt_system,
         .samples = (uint32_t)config->eval_samples,
         .number = ROUND_BASE},
        {.kind = "base",
         .title = "base, forced",
         .system = config->prompt_forced,
         .samples = (uint32_t)config->eval_samples,
         .number = ROUND_BASE_FORCED},
        {.kind = "knowledge",
         .title = "knowledge, forced",
         .system = config->prompt_forced,
         .samples = (uint32_t)config->eval_knowledge_samples,
         .number = ROUND_KNOWLEDGE},
    };
    const char *names[] = {"base.jsonl", "base-forced.jsonl", "knowledge.jsonl"};
    for (int i = 0; i < 3; i++) {
        struct driver_round round = rounds[i];
        round.paths = config->data_eval;
        round.limit = (uint64_t)config->eval_questions;
        struct outcome_file *file = NULL;
        TRY(ask_and_write(driver, &round, directory, names[i], &file));
        print_outcomes(file);
        outcome_file_destroy(&file);
    }
    return STATUS_OK;
}

static enum status evaluate(struct driver *driver, const struct run_config *config, const char *directory) {
    const struct driver_round round = {.kind = "eval",
                                       .title = "evaluation",
                                       .paths = config->data_eval,
                                       .limit = (uint64_t)config->eval_questions,
                                       .system = config->prompt_system,
                                       .samples = (uint32_t)config->eval_samples,
                                       .number = ROUND_EVAL};
    struct outcome_file *file = NULL;
    TRY(ask_and_write(driver, &round, directory, "final.jsonl", &file));
    print_outcomes(file);
    print_balance(file, directory, config);
    outcome_file_destroy(&file);
    return STATUS_OK;
}

static enum status run_driver(const struct eval_arguments *arguments, const struct run_config *config,
                              const char *model, uint32_t version, const char *directory) {
    const struct driver_options options = {.config = config,
                                           .model = model,
                                           .version = version,
                                           .actors = (uint32_t)arguments->actors,
                                           .rewards = (uint32_t)arguments->rewards,
                                           .threads = (uint32_t)arguments->threads,
                                           .stopped = command_interrupted};
    struct driver *driver = NULL;
    TRY(fs_make_directories(directory));
    enum status status = driver_open(&options, &driver);
    if (status == STATUS_OK)
        status = arguments->knowledge ? map_knowledge(driver, config, directory) : evaluate(driver, config, directory);
    driver_close(&driver);
    if (status != STATUS_OK)
        (void)rmdir(directory); /* only if it is empty */
    return status;
}

static void print_damaged(void *context, const char *text) {
    (void)context;
    fprintf(stderr, "candor eval: %s\n", text);
}

static enum status find_checkpoint(const char *run, char out_directory[PATH_BYTES], uint64_t *out_version) {
    struct checkpoint checkpoint;
    TRY(checkpoint_find(run, print_damaged, NULL, &checkpoint));
    memcpy(out_directory, checkpoint.directory, PATH_BYTES);
    *out_version = checkpoint.state.step;
    return STATUS_OK;
}

static enum status eval(const struct eval_arguments *arguments) {
    char stored[PATH_BYTES], directory[PATH_BYTES], model[PATH_BYTES];
    const char *config_path = arguments->config;
    uint64_t version = 0;
    snprintf(model, sizeof model, "%s", arguments->model != NULL ? arguments->model : "");
    if (arguments->run != NULL) {
        TRY(fs_join(stored, arguments->run, "config.ini"));
        TRY(fs_join(directory, arguments->run, "eval"));
        config_path = config_path != NULL ? config_path : stored;
        if (model[0] == 0 && !arguments->knowledge) /* the map is of the model that the run started from */
            TRY(find_checkpoint(arguments->run, model, &version));
    }
    struct run_config *config = NULL;
    TRY(run_config_load(config_path, arguments->set.items, arguments->set.count, &config));
    if (arguments->data != NULL)
        snprintf(config->data_eval, sizeof config->data_eval, "%s", arguments->data);
    if (model[0] == 0)
        snprintf(model, sizeof model, "%.*s", PATH_BYTES - 1, config->model_path);
    enum status status = STATUS_OK;
    if (model[0] == 0)
        status = fail(STATUS_USAGE, "--model DIR or --run DIR is missing");
    else if (config->data_eval[0] == 0)
        status = fail(STATUS_USAGE, "--data FILES (or data.eval in the configuration) is missing");
    else if (arguments->out == NULL && arguments->run == NULL)
        status = fail(STATUS_USAGE, "--out DIR is missing");
    if (status == STATUS_OK)
        status = run_driver(arguments, config, model, (uint32_t)version,
                            arguments->out != NULL ? arguments->out : directory);
    free(config);
    return status;
}

enum status command_eval(int argc, char **argv) {
    struct eval_arguments arguments = {.actors = 1, .rewards = 1};
    const char *device = NULL;
    const struct arg args[] = {
        {"run", ARG_TEXT, &arguments.run, "DIR",
         "a run's newest checkpoint (--knowledge: the model it started from), by its configuration"},
        {"model", ARG_TEXT, &arguments.model, "DIR", "or any Hugging Face directory"},
        {"config", ARG_TEXT, &arguments.config, "FILE", "configuration: sections data, prompt, sample, eval"},
        {"set", ARG_LIST, &arguments.set, "KEY=VALUE", "override a key of the configuration"},
        {"data", ARG_TEXT, &arguments.data, "FILES", "question files, separated by ':' (data.eval)"},
        {"out", ARG_TEXT, &arguments.out, "DIR", "gets final.jsonl (RUN/eval)"},
        {"knowledge", ARG_FLAG, &arguments.knowledge, "",
         "the knowledge map: writes knowledge, base-forced and base .jsonl"},
        {"device", ARG_TEXT, &device, "NAME", ARG_DEVICE_HELP},
        {"actors", ARG_INT, &arguments.actors, "N", "actors on this machine (1)"},
        {"rewards", ARG_INT, &arguments.rewards, "N", "reward workers on this machine (1)"},
        {"threads", ARG_INT, &arguments.threads, "N", "CPU threads shared out between the actors (all)"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor eval --run DIR | --model DIR --out DIR [options]",
                  "Asks every question of data.eval eval.samples times and tells correctness, caution, the study's\n"
                  "decomposition, and the balance against what the base model knows (when its map lies beside).",
                  args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    TRY(args_set_device(&arguments.set, device));
    if (arguments.actors < 1 || arguments.rewards < 1 || arguments.actors + arguments.rewards > 200)
        return fail(STATUS_USAGE, "--actors and --rewards: at least 1 each, at most 200 together");
    if (arguments.threads < 0 || arguments.threads > 1024)
        return fail(STATUS_USAGE, "--threads %lld: 0 to 1024", (long long)arguments.threads);
    return eval(&arguments);
}
