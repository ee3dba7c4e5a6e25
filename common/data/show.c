#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/data/mix.h"

#define LABELS_MAX 8

struct label {
    char name[MIX_NAME_BYTES];
    uint64_t count;
};

struct set {
    char name[MIX_NAME_BYTES];
    uint64_t count, unanswerable, aliases;
    struct label labels[LABELS_MAX]; /* class, where rows have one */
    uint64_t shown_at;               /* second pass: questions of this set so far */
};

struct show {
    const struct show_options *options;
    struct buf *out;
    struct set sets[MIX_SETS_MAX];
    uint32_t set_count;
};

static struct set *find_set(struct show *show, const char *name) {
    for (uint32_t i = 0; i < show->set_count; i++)
        if (strncmp(show->sets[i].name, name, MIX_NAME_BYTES - 1) == 0)
            return &show->sets[i];
    if (show->set_count == MIX_SETS_MAX)
        return NULL;
    struct set *set = &show->sets[show->set_count++];
    snprintf(set->name, sizeof set->name, "%s", name);
    return set;
}

static enum status count_question(void *user, const struct question *question) {
    struct set *set = find_set(user, question->set);
    if (!set)
        return fail(STATUS_LIMIT, "more than %d sets in one file", MIX_SETS_MAX);
    set->count++;
    set->unanswerable += !question->answerable;
    set->aliases += question->alias_count;
    for (int i = 0; *question->label && i < LABELS_MAX; i++) {
        struct label *label = &set->labels[i];
        if (label->count == 0)
            snprintf(label->name, sizeof label->name, "%s", question->label);
        if (strncmp(label->name, question->label, MIX_NAME_BYTES - 1) == 0) {
            label->count++;
            break;
        }
    }
    return STATUS_OK;
}

static void list_unusable(void *user, const char *path, uint64_t row, enum unusable reason, const char *detail) {
    struct show *show = user;
    if (show->options->list_unusable)
        buf_printf(show->out, "%s:%" PRIu64 ": %s: %s\n", path, row, unusable_name(reason), detail);
}

/* `samples` of a set's questions, evenly spread over the file. */
static enum status show_question(void *user, const struct question *question) {
    struct show *show = user;
    struct set *set = find_set(show, question->set);
    uint64_t samples = show->options->samples;
    if (!set)
        return STATUS_OK;
    uint64_t at = set->shown_at++;
    if (samples < set->count && (at + 1) * samples / set->count == at * samples / set->count)
        return STATUS_OK;
    buf_printf(show->out, "  %s %s: %s -> %s", question->set, question->id, question->text,
               question->answerable ? question->aliases[0] : "(unanswerable)");
    if (question->alias_count > 1)
        buf_printf(show->out, " (and %u more)", question->alias_count - 1);
    buf_puts(show->out, *question->label ? " [" : "");
    buf_printf(show->out, "%s%s\n", question->label, *question->label ? "]" : "");
    return STATUS_OK;
}

static void put_summary(const struct show *show, const char *path, const struct question_counts *counts) {
    buf_printf(show->out, "%s: rows %" PRIu64 ", usable %" PRIu64, path, counts->rows, counts->used);
    for (int i = 0; i < UNUSABLE_COUNT; i++)
        if (counts->unusable[i] > 0)
            buf_printf(show->out, ", %s %" PRIu64, unusable_name((enum unusable)i), counts->unusable[i]);
    buf_puts(show->out, "\n");
    for (uint32_t i = 0; i < show->set_count; i++) {
        const struct set *set = &show->sets[i];
        buf_printf(show->out, "  set %s: questions %" PRIu64 ", unanswerable %" PRIu64 ", aliases a question %.1f",
                   set->name, set->count, set->unanswerable, (double)set->aliases / (double)set->count);
        for (int l = 0; l < LABELS_MAX && set->labels[l].count > 0; l++)
            buf_printf(show->out, ", %s %" PRIu64, set->labels[l].name, set->labels[l].count);
        buf_puts(show->out, "\n");
    }
}

enum status show_file(const char *path, const struct show_options *options, struct buf *out_text) {
    struct show show = {.options = options, .out = out_text};
    struct question_events events = {.question = count_question, .unusable = list_unusable, .user = &show};
    struct question_counts counts;
    TRY(question_read(path, &events, &counts));
    put_summary(&show, question_path(path), &counts);
    events = (struct question_events){.question = show_question, .user = &show};
    if (options->samples > 0)
        TRY(question_read(path, &events, &counts));
    return buf_ok(out_text) ? STATUS_OK : fail(STATUS_NO_MEMORY, "%s: out of memory", path);
}
