/* candor: the operator's command. A table of subcommands; errors are one line, exit codes are those of status.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/build.h"
#include "common/base/log.h"
#include "deploy/cli/commands.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
}

bool command_interrupted(void) {
    return interrupted != 0;
}

static const struct {
    const char *name;
    enum status (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"demo", command_demo, "see all of it work in minutes: a small world, a small model, the real daemons"},
    {"train", command_train, "train a model with GRPO: starts learner, actors and reward workers on this machine"},
    {"sft", command_sft, "supervised training: a short warm-up, or a small model from nothing"},
    {"eval", command_eval, "measure a model: correctness, caution, and their balance against the base's knowledge"},
    {"data", command_data, "make, mix and show question files"},
    {"grade", command_grade, "grade a file of answers"},
    {"generate", command_generate, "answers to one question"},
    {"report", command_report, "one HTML file about runs, or the answers of a step"},
    {"status", command_status, "ask a running learner what it does"},
    {"keygen", command_keygen, "make a key pair for encrypted connections"},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(void) {
    printf("usage: candor COMMAND [options]\n\nTrains language models to be factual and cautious.\n\ncommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].about);
    printf("\n`candor COMMAND --help` tells more. Begin with `candor demo`.\n");
}

int main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return argc < 2 ? status_exit_code(STATUS_USAGE) : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("candor %s\n", build_name());
        return 0;
    }
    /* Once is a request to stop in order, which may take a long step; twice ends at once, children included. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like a full disk */
    log_init("candor", NULL, LOG_WARNING);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        enum status status = commands[i].run(argc - 1, argv + 1);
        if (fflush(stdout) != 0 && errno != EPIPE && status == STATUS_OK) /* `| head` has what it wanted */
            status = fail_errno("standard output");
        if (status != STATUS_OK)
            fprintf(stderr, "candor %s: %s\n", argv[1], status_message());
        return status_exit_code(status);
    }
    fprintf(stderr, "candor: %s: no such command; `candor help` lists them\n", argv[1]);
    return status_exit_code(STATUS_USAGE);
}
