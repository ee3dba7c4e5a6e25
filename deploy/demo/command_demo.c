#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "deploy/cli/commands.h"
#include "deploy/demo/demo.h"

extern char **environ;

static void print_stage(FILE *stream, const struct stage *stage) {
    fprintf(stream, "candor");
    for (const char *const *argument = stage->arguments; *argument != NULL; argument++)
        fprintf(stream, " %s", *argument);
    fprintf(stream, "\n");
}

static enum status wait_for(pid_t pid, const struct stage *stage) {
    int how;
    while (waitpid(pid, &how, 0) < 0)
        if (errno != EINTR)
            return fail_errno("waiting for candor %s", stage->arguments[0]);
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return STATUS_OK;
    if (WIFSIGNALED(how))
        return fail(STATUS_RUN_FAILED, "%s: candor %s was killed by signal %d", stage->title, stage->arguments[0],
                    WTERMSIG(how));
    return fail(STATUS_RUN_FAILED, "%s: candor %s failed; its message is above", stage->title, stage->arguments[0]);
}

/* The stage as a child of its own; Ctrl-C reaches it too, as it stays in the terminal's process group. */
static enum status run_stage(const struct stage *stage) {
    char *argv[STAGE_ARGUMENTS_MAX + 2];
    char program[] = "candor";
    size_t count = 0;
    argv[count++] = program;
    for (const char *const *argument = stage->arguments; *argument != NULL; argument++)
        memcpy(&argv[count++], argument, sizeof argv[0]); /* posix_spawn takes char *, and changes nothing */
    argv[count] = NULL;
    pid_t pid;
    fflush(stdout);
    int error = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);
    if (error != 0) {
        errno = error;
        return fail_errno("candor %s", stage->arguments[0]);
    }
    return wait_for(pid, stage);
}

static enum status run_stages(const struct demo *demo, const struct stage stages[STAGES]) {
    for (int i = 0; i < STAGES; i++) {
        if (demo->resume && stages[i].product[0] != 0 && fs_exists(stages[i].product)) {
            fprintf(stderr, "[%d/%d] %s: done before\n", i + 1, STAGES, stages[i].title);
            continue;
        }
        fprintf(stderr, "[%d/%d] %s: ", i + 1, STAGES, stages[i].title);
        print_stage(stderr, &stages[i]);
        enum status status = run_stage(&stages[i]);
        if (command_interrupted() && status != STATUS_OK)
            return fail(STATUS_INTERRUPTED,
                        "stopped; this goes on where it was: candor demo --resume --seed %llu --out %s",
                        (unsigned long long)demo->seed, demo->out);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status run_demo(struct demo *demo) {
    struct stage stages[STAGES];
    TRY(demo_paths(demo));
    TRY(demo_stages(demo, stages));
    if (demo->dry_run) {
        for (int i = 0; i < STAGES; i++)
            print_stage(stdout, &stages[i]);
        return STATUS_OK;
    }
    if (!demo->resume && !fs_directory_is_empty(demo->out))
        return fail(STATUS_EXISTS, "%s: %s; name another --out, or go on there with --resume", demo->out,
                    fs_is_directory(demo->out) ? "not empty" : "not a directory");
    if (demo->json != NULL)
        TRY(fs_check_output(demo->json));
    double start = clock_seconds();
    TRY(fs_make_directories(demo->out));
    TRY(demo_write_config(demo));
    TRY(run_stages(demo, stages));
    TRY(demo_summary(demo));
    printf("\nThe whole demo took %.0f s.\n", clock_seconds() - start);
    return STATUS_OK;
}

enum status command_demo(int argc, char **argv) {
    struct demo demo = {.out = "candor-demo"};
    int64_t seed = 1;
    const struct arg args[] = {
        {"seed", ARG_INT, &seed, "N", "which world (1)"},
        {"out", ARG_TEXT, &demo.out, "DIR", "where everything goes (./candor-demo)"},
        {"json", ARG_TEXT, &demo.json, "FILE", "write the numbers"},
        {"resume", ARG_FLAG, &demo.resume, "", "go on in a directory that a demo was stopped in"},
        {"dry-run", ARG_FLAG, &demo.dry_run, "", "print the commands, do nothing"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help(
            "candor demo [options]",
            "Everything at work in minutes: makes a small world of facts, pretrains a small model on it, maps what it\n"
            "knows, trains it with GRPO by the real daemons, evaluates, and writes report.html.",
            args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    if (seed < 0)
        return fail(STATUS_USAGE, "--seed %lld: not negative", (long long)seed);
    demo.seed = (uint64_t)seed;
    return run_demo(&demo);
}
