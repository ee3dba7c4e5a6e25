/* Outcomes: what a policy did on each question, the one thing that every metric is computed from, and its file.
 *
 * The file is JSONL. First line, the header: {"candor":"outcomes","kind":"eval"|"knowledge"|"base","version":V,
 * "weights":"<hex>","samples":N,"seed":S,"flop":F,"prompt":"<system prompt>"}; then a line a question: {"id","set","class","split",
 * "question","n","correct","process","abstain","wrong","malformed","answers":["first answers as text", ...]}. `answers` is
 * optional and capped. Written atomically. */
#ifndef CANDOR_EVAL_OUTCOME_H
#define CANDOR_EVAL_OUTCOME_H

#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/base/verdict.h"

#define OUTCOME_ANSWERS_MAX 3 /* texts kept a question */

struct outcome {
    char *id, *set, *class_label, *split, *question; /* split: "train", "held-out" or "" */
    uint32_t counts[VERDICT_COUNT];
    uint32_t samples; /* sum of counts */
    char *answers[OUTCOME_ANSWERS_MAX];
    uint32_t answer_count;
};

struct outcome_file {
    char *kind;
    uint32_t version;
    struct digest weights;
    uint32_t samples;
    uint64_t seed;
    double flop; /* work that the answers took; 0: not told */
    char *prompt;
    struct outcome *outcomes;
    uint32_t count, capacity;
    uint32_t *by_id; /* [count] indices sorted by set and id, made on the first find after a change; else NULL */
};

enum status outcome_file_create(const char *kind, uint32_t samples, uint64_t seed, const char *prompt,
                                struct outcome_file **out_file);
void outcome_file_destroy(struct outcome_file **file);
/* Adds a question; strings are copied. answers: texts of the first samples, NULL: none. */
enum status outcome_add(struct outcome_file *file, const char *id, const char *set, const char *class_label,
                        const char *split, const char *question, const uint32_t counts[VERDICT_COUNT],
                        const char *const *answers, uint32_t answer_count);
enum status outcome_file_write(const struct outcome_file *file, const char *path);
enum status outcome_file_read(const char *path, struct outcome_file **out_file);
/* By set and id, as ids are unique within a set only; NULL when absent (or out of memory for the index). O(log count).
 */
const struct outcome *outcome_find(struct outcome_file *file, const char *set, const char *id);

#endif
