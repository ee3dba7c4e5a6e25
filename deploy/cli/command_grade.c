/* candor grade: verdicts for a file of answers. */
#include <inttypes.h>
#include <stdio.h>

#include "deploy/cli/commands.h"
#include "deploy/cli/progress.h"
#include "reward/grade.h"

static void show_progress(void *user, uint64_t rows, uint64_t bytes_read, uint64_t bytes_total) {
    char note[48];
    snprintf(note, sizeof note, "%" PRIu64 " rows", rows);
    progress_update(user, bytes_read, bytes_total, note);
}

enum status command_grade(int argc, char **argv) {
    const char *in = NULL, *out = NULL;
    bool plain = false;
    const struct arg args[] = {
        {"file", ARG_TEXT, &in, "FILE", "JSONL rows with id, question, aliases (a list) and response"},
        {"out", ARG_TEXT, &out, "FILE", "the same rows with final and verdict added"},
        {"plain", ARG_FLAG, &plain, "", "the response is itself the final answer"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor grade --file answers.jsonl --out graded.jsonl [--plain]",
                  "Finds each final answer and compares it with the known aliases.", args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, NULL));
    if (in == NULL || out == NULL)
        return fail(STATUS_USAGE, "--file and --out are needed");
    struct progress progress;
    struct grade_counts counts;
    progress_begin(&progress, "grading");
    enum status status = grade_file(in, out, plain, show_progress, &progress, &counts);
    if (status != STATUS_OK) {
        progress_abort(&progress);
        return status;
    }
    progress_end(&progress, "");
    printf("%s: %" PRIu64 " rows", out, counts.rows);
    for (int i = 0; i < VERDICT_COUNT; i++)
        printf(", %s %" PRIu64, verdict_name((enum verdict)i), counts.verdicts[i]);
    printf("\n");
    return STATUS_OK;
}
