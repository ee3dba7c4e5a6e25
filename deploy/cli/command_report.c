/* candor report: one HTML file about runs, or the answers of a step. */
#include <stdio.h>

#include "common/base/fs.h"
#include "deploy/cli/commands.h"
#include "deploy/report/report.h"

#define NO_STEP INT64_MIN

static enum status print_rollouts(const char *directory, int64_t step) {
    struct buf text = {0};
    enum status status = report_rollouts(directory, (uint32_t)step, &text);
    if (status == STATUS_OK && !buf_ok(&text))
        status = fail(STATUS_NO_MEMORY, "%s: out of memory", directory);
    if (status == STATUS_OK)
        fwrite(text.data, 1, text.bytes, stdout);
    buf_deinit(&text);
    return status;
}

enum status command_report(int argc, char **argv) {
    struct arg_list runs = {.count = 0};
    const char *run = NULL, *out = NULL;
    int64_t step = NO_STEP, draws = 2000;
    const struct arg args[] = {
        {"run", ARG_TEXT, &run, "DIR", "the run (or name it without an option)"},
        {"out", ARG_TEXT, &out, "FILE", "the page (report.html in the first run's directory)"},
        {"rollouts", ARG_INT, &step, "STEP", "print the answers of this step instead"},
        {"draws", ARG_INT, &draws, "N", "bootstrap draws of intervals (2000)"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor report DIR [DIR...] [options]",
                  "One HTML file, no network: curves, decomposition, balance, answers before and after; more runs are "
                  "compared.",
                  args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, &runs));
    if (run != NULL && runs.count < ARG_LIST_MAX)
        runs.items[runs.count++] = run;
    if (runs.count == 0 || runs.count > REPORT_RUNS_MAX)
        return fail(STATUS_USAGE, "name 1 to %d run directories", REPORT_RUNS_MAX);
    if (draws < 10 || draws > 1000000 || (step < 0 && step != NO_STEP) || step > UINT32_MAX)
        return fail(STATUS_USAGE, "--draws: 10 to 1000000; --rollouts: a step number");
    if (step != NO_STEP)
        return print_rollouts(runs.items[0], step);
    char path[PATH_BYTES];
    TRY(fs_join(path, runs.items[0], "report.html"));
    TRY(report_write(runs.items, runs.count, (uint32_t)draws, out != NULL ? out : path));
    printf("%s\n", out != NULL ? out : path);
    return STATUS_OK;
}
