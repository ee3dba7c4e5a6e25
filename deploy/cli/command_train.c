/* candor train: learner, actors and reward workers of one machine, watched until the run is done. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/launch.h"
#include "deploy/cli/progress.h"

#define POLL_US 100000
#define DRAIN_MS 60000          /* the learner finishes its update and writes a checkpoint */
#define METRICS_TAIL_BYTES 8192 /* more than the longest line of metrics.jsonl */

struct train_arguments {
    const char *config, *run;
    struct arg_list set;
    int64_t actors, rewards, threads;
};

/* The newest complete line of metrics.jsonl: its step, and a few words. */
static bool read_metrics(const char *path, uint64_t *out_step, char *out_note, size_t note_bytes) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    char tail[METRICS_TAIL_BYTES + 1];
    if (fseek(file, -METRICS_TAIL_BYTES, SEEK_END) != 0)
        rewind(file);
    size_t bytes = fread(tail, 1, METRICS_TAIL_BYTES, file);
    fclose(file);
    while (bytes > 0 && tail[bytes - 1] != '\n')
        bytes--; /* a line being written */
    if (bytes == 0)
        return false;
    tail[bytes - 1] = 0;
    const char *line = strrchr(tail, '\n');
    line = line != NULL ? line + 1 : tail;
    json_t *record = NULL;
    if (json_parse(line, strlen(line), path, &record) != STATUS_OK)
        return false;
    const json_t *step = json_object_get(record, "step");
    bool found = json_is_integer(step);
    if (found) {
        *out_step = (uint64_t)json_integer_value(step) + 1;
        snprintf(out_note, note_bytes, "step %llu  reward %.3f  tokens/s %.0f", (unsigned long long)*out_step,
                 json_number_value(json_object_get(record, "reward")),
                 json_number_value(json_object_get(record, "tokens_per_second")));
    }
    json_decref(record);
    return found;
}

static enum status watch(struct launch *launch, const struct run_config *config, const char *run) {
    char metrics[PATH_BYTES], note[160] = "waiting for the first step";
    TRY(fs_join(metrics, run, "metrics.jsonl"));
    struct progress progress;
    progress_begin(&progress, "training");
    bool stopping = false;
    for (;;) {
        enum status status = launch_watch(launch);
        if (status != STATUS_OK) {
            progress_abort(&progress);
            return status;
        }
        uint64_t step = 0;
        read_metrics(metrics, &step, note, sizeof note);
        progress_update(&progress, step, (uint64_t)config->run_steps,
                        stopping ? "stopping: writing a checkpoint" : note);
        if (launch_done(launch, "learner"))
            break;
        if (command_interrupted() && !stopping) {
            launch_stop(launch, "learner");
            stopping = true;
        }
        usleep(POLL_US);
    }
    progress_end(&progress, note);
    if (stopping)
        return fail(STATUS_INTERRUPTED, "stopped at a checkpoint; the same command goes on: candor train --run %s",
                    run);
    return STATUS_OK;
}

static enum status start(struct launch *launch, const struct train_arguments *arguments, const char *config_path) {
    const char *learner[4 + 2 * ARG_LIST_MAX + 1] = {"--run", arguments->run, "--config", config_path};
    size_t count = 4;
    for (size_t i = 0; i < arguments->set.count; i++) {
        learner[count++] = "--set";
        learner[count++] = arguments->set.items[i];
    }
    TRY(launch_start(launch, "learner", "candor-learner", learner, false));
    return launch_workers(launch, arguments->run, (uint32_t)arguments->actors, (uint32_t)arguments->rewards,
                          (uint32_t)arguments->threads, NULL);
}

static enum status train(const struct train_arguments *arguments) {
    char stored[PATH_BYTES], logs[PATH_BYTES];
    TRY(fs_join(stored, arguments->run, "config.ini"));
    TRY(fs_join(logs, arguments->run, "logs"));
    const char *config_path = arguments->config != NULL ? arguments->config : stored;
    struct run_config *config = NULL;
    TRY(run_config_load(config_path, arguments->set.items, arguments->set.count, &config));
    struct launch *launch = NULL;
    enum status status = launch_create(logs, &launch);
    if (status == STATUS_OK)
        status = start(launch, arguments, config_path);
    if (status == STATUS_OK)
        status = watch(launch, config, arguments->run);
    launch_destroy(&launch, status == STATUS_OK ? DRAIN_MS : 2000);
    free(config);
    return status;
}

enum status command_train(int argc, char **argv) {
    struct train_arguments arguments = {.actors = 1, .rewards = 1};
    const struct arg args[] = {
        {"config", ARG_TEXT, &arguments.config, "FILE", "configuration; default: the run's own config.ini"},
        {"run", ARG_TEXT, &arguments.run, "DIR", "the run's directory; an existing one is resumed"},
        {"set", ARG_LIST, &arguments.set, "KEY=VALUE", "override a key of the configuration"},
        {"actors", ARG_INT, &arguments.actors, "N", "actors on this machine (1)"},
        {"rewards", ARG_INT, &arguments.rewards, "N", "reward workers on this machine (1)"},
        {"threads", ARG_INT, &arguments.threads, "N", "CPU threads shared out between the actors (all)"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor train --config FILE --run DIR [options]",
                  "Trains with GRPO: starts candor-learner, candor-actor and candor-reward, which speak over ipc.\n"
                  "Ctrl-C stops at a checkpoint; the same command goes on from there.",
                  args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    if (arguments.run == NULL)
        return fail(STATUS_USAGE, "--run DIR is missing: where the run is kept");
    if (arguments.actors < 0 || arguments.rewards < 0 || arguments.actors + arguments.rewards > LAUNCH_CHILDREN_MAX - 1)
        return fail(STATUS_USAGE, "--actors and --rewards: 0 to %d together", LAUNCH_CHILDREN_MAX - 1);
    return train(&arguments);
}
