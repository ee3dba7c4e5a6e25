/* candor train: learner, actors and reward workers of one machine, watched until the run is done. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/transport/daemon.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/launch.h"
#include "deploy/cli/learner_status.h"
#include "deploy/cli/progress.h"
#include "reward/rules.h"

#define POLL_US 100000
#define DRAIN_MS 60000           /* the learner finishes its update and writes a checkpoint */
#define METRICS_TAIL_BYTES 65536 /* more than the longest line of metrics.jsonl */
#define WARN_SECONDS 60.0
#define ASK_SECONDS 0.5
#define START_SECONDS 2.0 /* a start that is refused is refused by then: no bar of what a resumed run has done */

struct train_arguments {
    const char *config, *run;
    struct arg_list set;
    int64_t actors, rewards, threads;
};

/* What is known of a run: from metrics.jsonl, and from its learner. */
struct seen {
    char path[PATH_BYTES];
    uint64_t done; /* steps */
    double reward, tokens_per_second;
    json_t *warnings; /* of the newest step; NULL: none seen */
    bool asking;      /* the learner answers on this machine without keys */
    struct learner_status learner;
    double asked_at;
    char doing[160];
};

/* The newest complete line of metrics.jsonl, parsed; NULL when there is none. */
static json_t *read_newest(const char *path) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    char tail[METRICS_TAIL_BYTES + 1];
    if (fseek(file, -METRICS_TAIL_BYTES, SEEK_END) != 0)
        rewind(file);
    size_t bytes = fread(tail, 1, METRICS_TAIL_BYTES, file);
    fclose(file);
    while (bytes > 0 && tail[bytes - 1] != '\n')
        bytes--; /* a line being written */
    if (bytes == 0)
        return NULL;
    tail[bytes - 1] = 0;
    const char *line = strrchr(tail, '\n');
    line = line != NULL ? line + 1 : tail;
    json_t *record = NULL;
    return json_parse(line, strlen(line), path, &record) == STATUS_OK ? record : NULL;
}

static void look(struct seen *seen) {
    json_t *record = read_newest(seen->path);
    const json_t *step = json_object_get(record, "step");
    if (json_is_integer(step)) {
        seen->done = (uint64_t)json_integer_value(step) + 1;
        seen->reward = json_number_value(json_object_get(record, "reward"));
        seen->tokens_per_second = json_number_value(json_object_get(record, "tokens_per_second"));
        json_decref(seen->warnings);
        seen->warnings = json_incref(json_object_get(record, "warnings"));
    }
    json_decref(record);
}

static void ask_learner(struct seen *seen) {
    json_t *answer = NULL;
    if (!seen->asking || clock_seconds() - seen->asked_at < ASK_SECONDS ||
        learner_status_ask(&seen->learner, 0, &answer) != STATUS_OK)
        return;
    const char *doing = json_string_value(json_object_get(answer, "doing"));
    snprintf(seen->doing, sizeof seen->doing, "%s", doing != NULL ? doing : "");
    seen->asked_at = clock_seconds();
    json_decref(answer);
}

static void put_note(const struct seen *seen, const char *doing, char *out, size_t bytes) {
    if (seen->done == 0)
        snprintf(out, bytes, "%s", doing);
    else
        snprintf(out, bytes, "reward %.3f  %.0f tokens/s  %s", seen->reward, seen->tokens_per_second, doing);
}

/* The newest step's warnings, but not at every step. */
static void say_warnings(struct progress *progress, const struct seen *seen, double *last_said) {
    size_t index;
    json_t *warning;
    if (json_array_size(seen->warnings) == 0 || clock_seconds() - *last_said < WARN_SECONDS)
        return;
    *last_said = clock_seconds();
    json_array_foreach(seen->warnings, index, warning) {
        char line[320];
        snprintf(line, sizeof line, "step %llu: warning: %s", (unsigned long long)seen->done - 1,
                 json_string_value(warning) != NULL ? json_string_value(warning) : "?");
        progress_say(progress, line);
    }
}

static enum status watch_steps(struct launch *launch, uint64_t steps, struct seen *seen, struct progress *progress,
                               bool *out_stopped) {
    uint64_t shown = seen->done;
    double last_said = -WARN_SECONDS;
    bool stopping = false;
    char doing[sizeof seen->doing + 48], note[320];
    while (!launch_done(launch, "learner")) {
        usleep(POLL_US);
        TRY(launch_watch(launch));
        look(seen);
        ask_learner(seen);
        snprintf(doing, sizeof doing, "%s%s", stopping ? "stopping (Ctrl-C again: at once): " : "", seen->doing);
        put_note(seen, doing, note, sizeof note);
        if (seen->done != shown)
            say_warnings(progress, seen, &last_said);
        shown = seen->done;
        if (clock_seconds() - progress->started > START_SECONDS)
            progress_update(progress, seen->done, steps, note);
        if (command_interrupted() && !stopping) {
            launch_stop(launch, "learner");
            stopping = true;
        }
    }
    *out_stopped = stopping;
    return STATUS_OK;
}

static bool has_checkpoint(const char *run) {
    char path[PATH_BYTES];
    return fs_join(path, run, "checkpoints/latest") == STATUS_OK && fs_exists(path);
}

static void print_result(const char *run, uint64_t steps) {
    char path[PATH_BYTES];
    struct buf latest = {0};
    if (fs_join(path, run, "checkpoints/latest") == STATUS_OK && fs_read(path, PATH_BYTES, &latest) == STATUS_OK) {
        latest.data[strcspn(latest.data, "\n")] = 0;
        printf("%s: %llu updates; the model: %s/checkpoints/%s\n", run, (unsigned long long)steps, run, latest.data);
    }
    buf_deinit(&latest);
    printf("next: candor eval --run %s; candor report %s\n", run, run);
}

static enum status watch(struct launch *launch, const struct run_config *config, const char *run) {
    struct seen seen = {.doing = "starting"};
    char endpoint[ENDPOINT_BYTES], note[320];
    TRY(fs_join(seen.path, run, "metrics.jsonl"));
    TRY(daemon_endpoint("", run, "control", true, endpoint));
    if (config->hub_control[0] == 0)
        TRY(learner_status_open(endpoint, &(struct transport_settings){.key = "", .learner_key = "", .allow = ""},
                                &seen.learner));
    seen.asking = config->hub_control[0] == 0;
    look(&seen); /* a resumed run's */
    struct progress progress;
    progress_begin(&progress, "training");
    bool stopped = false;
    enum status status = watch_steps(launch, (uint64_t)config->run_steps, &seen, &progress, &stopped);
    put_note(&seen, "", note, sizeof note);
    if (status == STATUS_OK)
        progress_end(&progress, note);
    else
        progress_abort(&progress);
    if (seen.asking)
        learner_status_close(&seen.learner);
    json_decref(seen.warnings);
    if ((status == STATUS_RUN_FAILED || status == STATUS_AGAIN) && has_checkpoint(run))
        return fail(status, "%s; from the last checkpoint on: candor train --run %s", status_message(), run);
    TRY(status);
    if (stopped && seen.done < (uint64_t)config->run_steps)
        return fail(STATUS_INTERRUPTED, "stopped at a checkpoint; this goes on from there: candor train --run %s", run);
    print_result(run, seen.done);
    return STATUS_OK;
}

static enum status start(struct launch *launch, const struct train_arguments *arguments, const char *config_path,
                         const struct run_config *config) {
    const char *learner[4 + 2 * ARG_LIST_MAX + 1] = {"--run", arguments->run};
    size_t count = 2;
    if (config_path != NULL) {
        learner[count++] = "--config";
        learner[count++] = config_path;
    }
    for (size_t i = 0; i < arguments->set.count; i++) {
        learner[count++] = "--set";
        learner[count++] = arguments->set.items[i];
    }
    TRY(launch_start(launch, "learner", "candor-learner", learner, false));
    return launch_workers(launch, config, arguments->run, (uint32_t)arguments->actors, (uint32_t)arguments->rewards,
                          (uint32_t)arguments->threads);
}

/* candor-reward cannot score by a custom rule. */
static enum status check_rule(const struct run_config *config, int64_t rewards) {
    if (rewards == 0 || rule_find(config->reward_rule) != NULL)
        return STATUS_OK;
    return fail(STATUS_CONFIG,
                "reward.rule = %.60s: candor-reward has no such rule; right would be --rewards 0 and workers of your "
                "own",
                config->reward_rule);
}

/* The learner asks too (its lock), but only after actors and reward workers of this command have met those of the other. */
static enum status check_free(const char *run) {
    char path[PATH_BYTES];
    int lock;
    TRY(fs_join(path, run, "lock"));
    if (!fs_exists(path))
        return STATUS_OK;
    enum status status = fs_lock(path, &lock);
    if (status == STATUS_OK)
        fs_unlock(lock);
    if (status == STATUS_AGAIN)
        return fail(status, "%s: another learner has this run; right would be one at a time", run);
    return status;
}

static enum status train(const struct train_arguments *arguments) {
    char stored[PATH_BYTES], logs[PATH_BYTES];
    TRY(fs_join(stored, arguments->run, "config.ini"));
    TRY(fs_join(logs, arguments->run, "logs"));
    const char *config_path = arguments->config != NULL ? arguments->config : fs_exists(stored) ? stored : NULL;
    struct run_config *config = NULL;
    TRY(run_config_load(config_path, arguments->set.items, arguments->set.count, &config));
    struct launch *launch = NULL;
    enum status status = check_rule(config, arguments->rewards);
    if (status == STATUS_OK)
        status = check_free(arguments->run);
    if (status == STATUS_OK)
        status = launch_create(logs, &launch);
    if (status == STATUS_OK)
        status = start(launch, arguments, config_path, config);
    if (status == STATUS_OK)
        status = watch(launch, config, arguments->run);
    launch_destroy(&launch, status == STATUS_OK ? DRAIN_MS : 2000);
    free(config);
    return status;
}

enum status command_train(int argc, char **argv) {
    struct train_arguments arguments = {.actors = 1, .rewards = 1};
    const char *device = NULL;
    const struct arg args[] = {
        {"config", ARG_TEXT, &arguments.config, "FILE",
         "configuration (the run's own config.ini, else defaults and --set)"},
        {"run", ARG_TEXT, &arguments.run, "DIR", "the run's directory; an existing one is resumed"},
        {"set", ARG_LIST, &arguments.set, "KEY=VALUE", "override a key of the configuration"},
        {"device", ARG_TEXT, &device, "NAME", ARG_DEVICE_HELP},
        {"actors", ARG_INT, &arguments.actors, "N", "actors on this machine (1)"},
        {"rewards", ARG_INT, &arguments.rewards, "N", "reward workers on this machine (1)"},
        {"threads", ARG_INT, &arguments.threads, "N", "CPU threads shared out between the actors (all)"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor train --run DIR [--config FILE] [options]",
                  "Trains with GRPO: starts candor-learner, candor-actor and candor-reward, which speak over ipc.\n"
                  "Ctrl-C stops at a checkpoint, twice at once; the same command goes on from there.",
                  args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    TRY(args_set_device(&arguments.set, device));
    if (arguments.run == NULL)
        return fail(STATUS_USAGE, "--run DIR is missing: where the run is kept");
    if (arguments.actors < 0 || arguments.rewards < 0 || arguments.actors + arguments.rewards > LAUNCH_CHILDREN_MAX - 1)
        return fail(STATUS_USAGE, "--actors and --rewards: 0 to %d together", LAUNCH_CHILDREN_MAX - 1);
    if (arguments.threads < 0 || arguments.threads > 1024)
        return fail(STATUS_USAGE, "--threads %lld: 0 to 1024", (long long)arguments.threads);
    return train(&arguments);
}
