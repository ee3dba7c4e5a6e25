/* Questions with known answers, out of the published files as they are.
 *
 * One reader takes them all. The format is found by content, never by the file's name:
 *   delimited     a header line names the columns: SimpleQA csv (its metadata column is a Python dict), PopQA tsv (JSON lists in
 *                 cells, doubled quotes), and others with a question and an answer column
 *   JSON lines    one object a line: FlashRAG, NQ-open, Candor's own, ...
 *   one document  an array of objects, or an object that holds such arrays: SelfAware, TriviaQA's original files, ...
 * A row is recognised by its members (question_row.c has the table). Memory is one row, whatever the file's size. A row that
 * cannot be used is counted by reason and can be listed; it is never dropped in silence.
 *
 * Candor's own form, one object a line; only id, question and aliases are needed:
 *   {"id": "tq-17", "set": "triviaqa", "question": "...", "aliases": ["...", "..."], "answerable": true, "class": "sometimes",
 *    "split": "train", "metadata": {...}} */
#ifndef CANDOR_DATA_QUESTION_H
#define CANDOR_DATA_QUESTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/status.h"

#define QUESTION_ROW_BYTES_MAX                                                                                         \
    (16u << 20) /* one row of a file; TriviaQA's largest with evidence names is about 100 kB */
#define QUESTION_TEXT_BYTES_MAX (64u << 10) /* the question, or one alias */
#define QUESTION_ALIASES_MAX 4096
#define QUESTION_COUNT_MAX (16u << 20) /* questions in one set in memory */

struct question {
    const char *id;  /* as in the file, else 16 hex digits of question_hash */
    const char *set; /* "simpleqa", "popqa", ...: by format, else by the file's name */
    const char *text;
    const char *const *aliases; /* [alias_count], without repeats, the canonical answer first */
    uint32_t alias_count;       /* 0 exactly when not answerable: abstaining is right */
    bool answerable;
    const char *label;    /* "class" of Candor's form (demo: always, sometimes, never), else "" */
    const char *split;    /* "train", "held-out", or "" */
    const char *metadata; /* a JSON object as text, or "" */
    uint64_t hash;        /* question_hash */
};

/* Identity of a question across files and runs: set, text and aliases; the id is a name and does not enter. */
uint64_t question_hash(const struct question *question);

/* Append the question as a line of Candor's form, with its line feed. */
void question_put(const struct question *question, struct buf *out);

enum unusable {
    UNUSABLE_MALFORMED,    /* not JSON, not an object, wrong number of columns, a wrong type */
    UNUSABLE_UTF8,         /* bytes that are not utf-8 */
    UNUSABLE_NO_QUESTION,  /* no question text */
    UNUSABLE_NO_ANSWER,    /* no gold answer, and not marked unanswerable */
    UNUSABLE_UNKNOWN_GOLD, /* the gold answer is itself "unknown" or the like: abstaining cannot be told from knowing */
    UNUSABLE_TOO_LONG,     /* above a limit of this header */
    UNUSABLE_COUNT
};
const char *unusable_name(enum unusable reason); /* "malformed", "no-answer", ... */

struct question_counts {
    uint64_t rows, used;
    uint64_t unusable[UNUSABLE_COUNT];
};

/* What a reader calls; any of the three may be NULL. */
struct question_events {
    /* One usable question, borrowed for the call; another status than STATUS_OK ends the reading with it. */
    enum status (*question)(void *user, const struct question *question);
    /* One unusable row; row counts from 1 within the file (lines count for JSON lines). */
    void (*unusable)(void *user, const char *path, uint64_t row, enum unusable reason, const char *detail);
    /* About every 4 MB and at the end. */
    void (*progress)(void *user, const char *path, uint64_t bytes_read, uint64_t bytes_total);
    void *user;
};

/* The path inside an argument that may be "NAME=PATH". */
const char *question_path(const char *argument);

/* Read one file. path may be "NAME=PATH" to give the set its name. STATUS_NOT_FOUND; STATUS_FORMAT when the file is none of
 * the formats or ends inside a row's structure; out_counts is written on success. */
enum status question_read(const char *path, const struct question_events *events, struct question_counts *out_counts);

/* Questions in memory, in the order of files and rows. */
struct question_set {
    const struct question *questions; /* [count] */
    uint32_t count;
    struct question_arena *arena;
};

/* Read files [path_count] into memory; events may be NULL (its question member is not called). A set without a single
 * question is STATUS_FORMAT. counts are the sum over the files; may be NULL. */
enum status question_set_load(const char *const *paths, size_t path_count, const struct question_events *events,
                              struct question_set *out_set, struct question_counts *out_counts);
void question_set_deinit(struct question_set *set);

/* Keep at most `limit` questions, in their order: the first of each data set, and of each as many as of any other that has
 * so many. 0 keeps all. A file that holds one set after another would otherwise give only its first one. */
void question_set_limit(struct question_set *set, uint64_t limit);

#endif
