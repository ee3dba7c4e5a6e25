/* One row on its way from a file to a question. Inside common/data only.
 *
 * A reader resets the row, gives it what the file says, and finishes it; finishing checks, trims, removes repeats and
 * tells why a row cannot be used. The question it yields points into the row and lives until the next reset. */
#ifndef CANDOR_DATA_QUESTION_ROW_H
#define CANDOR_DATA_QUESTION_ROW_H

#include "common/base/json.h"
#include "common/data/question.h"

struct question_row {
    struct buf pool;                              /* NUL-terminated strings, end to end; offset 0 is "" */
    size_t id, set, text, label, split, metadata; /* offsets into pool */
    size_t *aliases;                              /* [alias_count] offsets */
    const char **alias_texts;                     /* [alias_count], filled when finished */
    uint64_t *alias_hashes;
    uint32_t alias_count, alias_capacity;
    bool answerable, said_answerable;
    bool unusable;
    enum unusable reason;
    char detail[160];
};

void question_row_deinit(struct question_row *row);
void question_row_reset(struct question_row *row);

/* Text is trimmed, copied and checked to be utf-8 without NUL; a bad one makes the row unusable. */
void question_row_set(struct question_row *row, size_t *field, const char *text, size_t bytes);
void question_row_alias(struct question_row *row, const char *text, size_t bytes);
/* A cell that holds a JSON list of strings, or else one alias. */
void question_row_alias_list(struct question_row *row, const char *text, size_t bytes);
/* Everything out of a JSON object. */
void question_row_json(struct question_row *row, const json_t *object);
/* topic and answer_type out of a Python dict literal, as metadata. */
void question_row_python_dict(struct question_row *row, const char *text, size_t bytes);
/* The first reason counts. */
void question_row_refuse(struct question_row *row, enum unusable reason, const char *detail);

/* default_set names the set where the row does not. false: unusable, see reason and detail. STATUS_NO_MEMORY alone
 * fails. */
enum status question_row_finish(struct question_row *row, const char *default_set, bool *out_usable,
                                struct question *out_question);

/* An object that question_row_json can make a question of: it has a question's text. */
bool question_row_has_text(const char *key);

#endif
