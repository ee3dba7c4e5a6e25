#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "deploy/cli/commands.h"
#include "deploy/demo/demo.h"

#define POLL_US 20000

/* As a shell reads it back. */
static void put_word(struct buf *out, const char *word) {
    if (word[strcspn(word, " \t\n'\"\\$`*?[]#~;&|<>(){}!")] == 0) {
        buf_printf(out, " %s", word);
        return;
    }
    buf_puts(out, " '");
    for (; *word != 0; word++)
        buf_printf(out, *word == '\'' ? "'\\%c'" : "%c", *word);
    buf_puts(out, "'");
}

static void print_stage(FILE *stream, const struct stage *stage) {
    struct buf line = {0};
    buf_puts(&line, "candor");
    for (const char *const *argument = stage->arguments; *argument != NULL; argument++)
        put_word(&line, *argument);
    fprintf(stream, "%s\n", buf_ok(&line) ? line.data : "");
    buf_deinit(&line);
}

static enum status wait_for(pid_t pid, const struct stage *stage) {
    int how;
    bool told = false;
    for (;;) {
        pid_t ended = waitpid(pid, &how, WNOHANG);
        if (ended == pid)
            break;
        if (ended < 0 && errno != EINTR)
            return fail_errno("waiting for candor %s", stage->arguments[0]);
        if (command_interrupted() && !told) {
            kill(pid, SIGTERM);
            told = true;
        }
        usleep(POLL_US);
    }
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return STATUS_OK;
    if (WIFSIGNALED(how))
        return fail(STATUS_RUN_FAILED, "%s: candor %s was killed by signal %d", stage->title, stage->arguments[0],
                    WTERMSIG(how));
    return fail(STATUS_RUN_FAILED, "%s: candor %s failed; its message is above", stage->title, stage->arguments[0]);
}

/* The stage as a child of its own. Ctrl-C reaches it in the terminal's process group; a stop that only this process was asked for
 * is passed on (wait_for); and a stage never outlives the demo. */
static enum status run_stage(const struct stage *stage) {
    char *argv[STAGE_ARGUMENTS_MAX + 2];
    char program[] = "candor";
    size_t count = 0;
    argv[count++] = program;
    for (const char *const *argument = stage->arguments; *argument != NULL; argument++)
        memcpy(&argv[count++], argument, sizeof argv[0]); /* posix_spawn takes char *, and changes nothing */
    argv[count] = NULL;
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return fail_errno("candor %s", stage->arguments[0]);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() == parent)
            execv("/proc/self/exe", argv);
        _exit(1);
    }
    return wait_for(pid, stage);
}

static enum status fail_stopped(const struct demo *demo) {
    struct buf set = {0};
    for (size_t i = 0; i < demo->set.count; i++) {
        buf_puts(&set, " --set");
        put_word(&set, demo->set.items[i]);
    }
    enum status status =
        fail(STATUS_INTERRUPTED, "stopped; this goes on where it was: candor demo --resume --seed %llu --out %s%s",
             (unsigned long long)demo->seed, demo->out, set.bytes > 0 && buf_ok(&set) ? set.data : "");
    buf_deinit(&set);
    return status;
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
            return fail_stopped(demo);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status run_demo(struct demo *demo) {
    static struct stage stages[STAGES];
    TRY(demo_paths(demo));
    TRY(demo_check_settings(demo));
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
    TRY(run_stages(demo, stages));
    TRY(demo_summary(demo));
    printf("\nThe whole demo took %.0f s.\n", clock_seconds() - start);
    return STATUS_OK;
}

enum status command_demo(int argc, char **argv) {
    struct demo demo = {.out = "candor-demo"};
    const char *device = NULL;
    int64_t seed = 1;
    const struct arg args[] = {
        {"seed", ARG_INT, &seed, "N", "which world (1)"},
        {"out", ARG_TEXT, &demo.out, "DIR", "where everything goes (./candor-demo)"},
        {"json", ARG_TEXT, &demo.json, "FILE", "write the numbers"},
        {"resume", ARG_FLAG, &demo.resume, "", "go on in a directory that a demo was stopped in"},
        {"set", ARG_LIST, &demo.set, "KEY=VALUE", "change a key of the configuration, such as run.steps=20"},
        {"device", ARG_TEXT, &device, "NAME", ARG_DEVICE_HELP},
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
    TRY(args_set_device(&demo.set, device));
    if (seed < 0)
        return fail(STATUS_USAGE, "--seed %lld: not negative", (long long)seed);
    demo.seed = (uint64_t)seed;
    return run_demo(&demo);
}
