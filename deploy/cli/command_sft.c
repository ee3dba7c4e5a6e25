/* candor sft: supervised training, from a model or from nothing. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "deploy/cli/commands.h"
#include "deploy/cli/progress.h"
#include "learner/sft.h"

struct sft_shown {
    struct progress progress;
    struct sft_progress last;
};

static void show_progress(void *context, const struct sft_progress *at) {
    struct sft_shown *shown = context;
    char note[96];
    snprintf(note, sizeof note, "loss %.3f  tokens/s %.0f", at->loss, at->tokens_per_second);
    progress_update(&shown->progress, at->step, at->steps, note);
    shown->last = *at;
}

static bool is_stopped(void *context) {
    (void)context;
    return command_interrupted();
}

static enum status sft(const struct run_config *config, bool from_nothing, const char *out) {
    struct sft_shown shown = {.last = {.step = 0}};
    const struct sft_events events = {.context = &shown, .progress = show_progress, .stopped = is_stopped};
    progress_begin(&shown.progress, "supervised training");
    enum status status = sft_run(config, from_nothing, out, &events);
    if (status != STATUS_OK) {
        progress_abort(&shown.progress);
        return status;
    }
    char note[128];
    snprintf(note, sizeof note, "loss %.3f, %.2f TFLOP, %.1f GFLOP/s", shown.last.loss, shown.last.flop * 1e-12,
             shown.last.seconds > 0 ? shown.last.flop / shown.last.seconds * 1e-9 : 0);
    progress_end(&shown.progress, note);
    printf("%s: %" PRIu64 " updates\n", out, shown.last.step);
    return STATUS_OK;
}

enum status command_sft(int argc, char **argv) {
    const char *config_path = NULL, *device = NULL, *init = NULL, *model = NULL, *out = NULL;
    struct arg_list set = {.count = 0};
    const struct arg args[] = {
        {"config", ARG_TEXT, &config_path, "FILE", "configuration: sections sft, model, run, train, optim"},
        {"set", ARG_LIST, &set, "KEY=VALUE", "override a key of the configuration"},
        {"model", ARG_TEXT, &model, "DIR", "the model to start from (model.path)"},
        {"init", ARG_TEXT, &init, "DIR", "start from nothing: a directory with config.json and tokenizer files"},
        {"device", ARG_TEXT, &device, "NAME", ARG_DEVICE_HELP},
        {"out", ARG_TEXT, &out, "DIR", "the trained model, an ordinary Hugging Face directory"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor sft --out DIR [--model DIR | --init DIR] [options]",
                  "Trains on examples (sft.data: JSONL of system, question, answer): a short warm-up before GRPO, or a "
                  "small\n"
                  "model from nothing.",
                  args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    TRY(args_set_device(&set, device));
    if (out == NULL)
        return fail(STATUS_USAGE, "--out DIR is missing");
    if (init != NULL && model != NULL)
        return fail(STATUS_USAGE, "--init and --model exclude each other");
    struct run_config *config = NULL;
    TRY(run_config_load(config_path, set.items, set.count, &config));
    const char *start = init != NULL ? init : model;
    if (start != NULL)
        snprintf(config->model_path, sizeof config->model_path, "%s", start);
    enum status status = config->model_path[0] != 0
                             ? sft(config, init != NULL, out)
                             : fail(STATUS_USAGE, "--model or --init is missing: what to start from");
    free(config);
    return status;
}
