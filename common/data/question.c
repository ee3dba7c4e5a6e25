#include "common/data/question.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/base/hash.h"
#include "common/base/json.h"

const char *unusable_name(enum unusable reason) {
    static const char *const names[UNUSABLE_COUNT] = {
        [UNUSABLE_MALFORMED] = "malformed",       [UNUSABLE_UTF8] = "not-utf8",
        [UNUSABLE_NO_QUESTION] = "no-question",   [UNUSABLE_NO_ANSWER] = "no-answer",
        [UNUSABLE_UNKNOWN_GOLD] = "unknown-gold", [UNUSABLE_TOO_LONG] = "too-long",
    };
    return (unsigned)reason < UNUSABLE_COUNT ? names[reason] : "?";
}

/* Each part with its NUL, so that moving a character from one into the next changes the hash. */
uint64_t question_hash(const struct question *question) {
    uint64_t hashes[2] = {hash64(question->set, strlen(question->set) + 1), 0};
    hashes[1] = hash64(question->text, strlen(question->text) + 1);
    for (uint32_t i = 0; i < question->alias_count; i++) {
        hashes[0] = hash64(hashes, sizeof hashes);
        hashes[1] = hash64(question->aliases[i], strlen(question->aliases[i]) + 1);
    }
    return hash64(hashes, sizeof hashes);
}

static void put_member(struct buf *out, const char *key, const char *text) {
    buf_printf(out, ", \"%s\": ", key);
    json_put_string(out, text, strlen(text));
}

void question_put(const struct question *question, struct buf *out) {
    buf_puts(out, "{\"id\": ");
    json_put_string(out, question->id, strlen(question->id));
    put_member(out, "set", question->set);
    put_member(out, "question", question->text);
    buf_puts(out, ", \"aliases\": [");
    for (uint32_t i = 0; i < question->alias_count; i++) {
        buf_puts(out, i ? ", " : "");
        json_put_string(out, question->aliases[i], strlen(question->aliases[i]));
    }
    buf_puts(out, "]");
    if (!question->answerable)
        buf_puts(out, ", \"answerable\": false");
    if (*question->label)
        put_member(out, "class", question->label);
    if (*question->split)
        put_member(out, "split", question->split);
    if (*question->metadata)
        buf_printf(out, ", \"metadata\": %s", question->metadata);
    buf_puts(out, "}\n");
}

/* ---- sets in memory
 * ---------------------------------------------------------------------------------------------------- */

#define SET_BYTES_MAX ((size_t)4 << 30) /* the texts of one set in memory: all of TriviaQA is about 0.1 GB */

struct question_arena {
    struct arena texts;
    struct question *questions; /* grows by doubling; what it points to lies in texts */
    uint32_t count, capacity;
};

static const char *keep_text(struct question_arena *arena, const char *text) {
    return *text ? arena_copy(&arena->texts, text, strlen(text)) : "";
}

static enum status keep_question(void *user, const struct question *question) {
    struct question_arena *arena = user;
    if (arena->count == QUESTION_COUNT_MAX)
        return fail(STATUS_LIMIT, "more than %u questions", QUESTION_COUNT_MAX);
    if (arena->count == arena->capacity) {
        uint32_t capacity = arena->capacity ? 2 * arena->capacity : 1024;
        struct question *grown = realloc(arena->questions, capacity * sizeof *grown);
        if (!grown)
            return fail(STATUS_NO_MEMORY, "out of memory for %u questions", capacity);
        arena->questions = grown;
        arena->capacity = capacity;
    }
    struct question copy = *question;
    const char **aliases = arena_alloc(&arena->texts, question->alias_count * sizeof *aliases);
    bool whole = aliases != NULL;
    for (uint32_t i = 0; whole && i < question->alias_count; i++)
        whole = (aliases[i] = keep_text(arena, question->aliases[i])) != NULL;
    copy.aliases = aliases;
    const char **fields[] = {&copy.id, &copy.set, &copy.text, &copy.label, &copy.split, &copy.metadata};
    for (size_t i = 0; whole && i < sizeof fields / sizeof *fields; i++)
        whole = (*fields[i] = keep_text(arena, *fields[i])) != NULL;
    if (!whole)
        return fail(STATUS_LIMIT, "question %u: no room in memory for its texts", arena->count + 1);
    arena->questions[arena->count++] = copy;
    return STATUS_OK;
}

static void arena_free(struct question_arena *arena) {
    arena_deinit(&arena->texts);
    free(arena->questions);
    free(arena);
}

/* The caller's events, but questions go into the arena. */
struct keeper {
    struct question_arena *arena;
    const struct question_events *events;
};

static enum status keeper_question(void *user, const struct question *question) {
    return keep_question(((struct keeper *)user)->arena, question);
}

static void keeper_unusable(void *user, const char *path, uint64_t row, enum unusable reason, const char *detail) {
    const struct question_events *events = ((struct keeper *)user)->events;
    if (events && events->unusable)
        events->unusable(events->user, path, row, reason, detail);
}

static void keeper_progress(void *user, const char *path, uint64_t bytes_read, uint64_t bytes_total) {
    const struct question_events *events = ((struct keeper *)user)->events;
    if (events && events->progress)
        events->progress(events->user, path, bytes_read, bytes_total);
}

enum status question_set_load(const char *const *paths, size_t path_count, const struct question_events *events,
                              struct question_set *out_set, struct question_counts *out_counts) {
    struct question_arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return fail(STATUS_NO_MEMORY, "out of memory for questions");
    arena_init(&arena->texts, SET_BYTES_MAX);
    struct keeper keeper = {arena, events};
    struct question_events own = {keeper_question, keeper_unusable, keeper_progress, &keeper};
    struct question_counts sum = {0};
    for (size_t i = 0; i < path_count; i++) {
        struct question_counts counts;
        enum status status = question_read(paths[i], &own, &counts);
        if (status != STATUS_OK) {
            arena_free(arena);
            return status;
        }
        sum.rows += counts.rows;
        sum.used += counts.used;
        for (int reason = 0; reason < UNUSABLE_COUNT; reason++)
            sum.unusable[reason] += counts.unusable[reason];
    }
    if (arena->count == 0) {
        arena_free(arena);
        return fail(STATUS_FORMAT, "%s: not one usable question in %llu rows", path_count ? paths[0] : "no file",
                    (unsigned long long)sum.rows);
    }
    *out_set = (struct question_set){arena->questions, arena->count, arena};
    if (out_counts)
        *out_counts = sum;
    return STATUS_OK;
}

/* Data sets told apart when a limit is shared out; those beyond share the last place. */
#define SHARES_MAX 64

struct share {
    const char *name;
    uint64_t count, kept;
};

static struct share *share_of(struct share *shares, const char *name) {
    uint32_t i = 0;
    while (i < SHARES_MAX - 1 && shares[i].name && strcmp(shares[i].name, name) != 0)
        i++;
    if (!shares[i].name)
        shares[i].name = name;
    return &shares[i];
}

void question_set_limit(struct question_set *set, uint64_t limit) {
    if (limit == 0 || limit >= set->count)
        return;
    struct share shares[SHARES_MAX] = {{NULL, 0, 0}};
    for (uint32_t i = 0; i < set->count; i++)
        share_of(shares, set->questions[i].set)->count++;
    for (uint64_t left = limit; left > 0;)
        for (uint32_t s = 0; s < SHARES_MAX && left > 0; s++)
            if (shares[s].kept < shares[s].count) {
                shares[s].kept++;
                left--;
            }
    struct question *questions = set->arena->questions;
    set->count = 0;
    for (uint32_t i = 0; set->count < limit; i++) {
        struct share *share = share_of(shares, questions[i].set);
        if (share->kept == 0)
            continue;
        share->kept--;
        questions[set->count++] = questions[i];
    }
}

void question_set_deinit(struct question_set *set) {
    if (set->arena)
        arena_free(set->arena);
    *set = (struct question_set){0};
}
