#include "common/model/train_batch.h"

#include <stdlib.h>

enum status train_batch_create(int32_t rows_max, int32_t targets_max, struct train_batch **out_batch) {
    struct train_batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return fail(STATUS_NO_MEMORY, "no memory for a training batch");
    ASSERT(rows_max >= 1 && targets_max >= 0);
    size_t rows = (size_t)rows_max, targets = (size_t)targets_max + 1; /* never 0 bytes */
    batch->rows_max = rows_max;
    batch->targets_max = targets_max;
    batch->ids = malloc(rows * sizeof(int32_t));
    batch->positions = malloc(rows * sizeof(int32_t));
    batch->row_sequence = malloc(rows * sizeof(int32_t));
    batch->key_offset =
        calloc(rows + 1, sizeof(int32_t)); /* a sequence has a row of its own, and a tree has a sequence */
    batch->tree_row = calloc(rows + 1, sizeof(int32_t));
    batch->target_rows = malloc(targets * sizeof(int32_t));
    batch->target_ids = malloc(targets * sizeof(int32_t));
    batch->target_places = malloc(targets * sizeof(int32_t));
    if (!batch->ids || !batch->positions || !batch->row_sequence || !batch->key_offset || !batch->tree_row ||
        !batch->target_rows || !batch->target_ids || !batch->target_places) {
        train_batch_destroy(&batch);
        return fail(STATUS_NO_MEMORY, "no memory for a training batch of %d rows", rows_max);
    }
    *out_batch = batch;
    return STATUS_OK;
}

void train_batch_destroy(struct train_batch **batch) {
    struct train_batch *b = *batch;
    if (!b)
        return;
    free(b->ids);
    free(b->positions);
    free(b->row_sequence);
    free(b->key_offset);
    free(b->key_rows);
    free(b->tree_row);
    free(b->target_rows);
    free(b->target_ids);
    free(b->target_places);
    free(b);
    *batch = NULL;
}

void train_batch_reset(struct train_batch *batch) {
    batch->rows = batch->sequences = batch->trees = batch->targets = 0;
    batch->keys = 0;
    batch->longest = 0;
}

int32_t train_batch_rows(const struct train_batch *batch) {
    return batch->rows;
}

int32_t train_batch_targets(const struct train_batch *batch) {
    return batch->targets;
}

/* ---- a tree ---- */

struct tree_size {
    int64_t rows, targets, keys;
};

static struct tree_size measure(int32_t prompt_count, const int32_t *answer_counts, int32_t answer_count) {
    struct tree_size size = {.rows = prompt_count, .keys = prompt_count};
    for (int32_t a = 0; a < answer_count; a++) {
        ASSERT(answer_counts[a] >= 0);
        int32_t own = answer_counts[a] > 0 ? answer_counts[a] - 1 : 0;
        size.targets += answer_counts[a];
        size.rows += own;
        size.keys += own + (a > 0 && own > 0 ? prompt_count : 0);
    }
    return size;
}

int32_t train_tree_rows(int32_t prompt_count, const int32_t *answer_counts, int32_t answer_count) {
    int64_t rows = measure(prompt_count, answer_counts, answer_count).rows;
    return rows < INT32_MAX ? (int32_t)rows : INT32_MAX;
}

static enum status reserve_keys(struct train_batch *batch, int64_t keys) {
    if (keys > INT32_MAX)
        return fail(STATUS_LIMIT, "a training batch of %lld keys: the limit is %d", (long long)keys, INT32_MAX);
    if (keys <= batch->keys_capacity)
        return STATUS_OK;
    int64_t capacity = 2 * batch->keys_capacity > keys ? 2 * batch->keys_capacity : keys;
    int32_t *rows = realloc(batch->key_rows, (size_t)capacity * sizeof *rows);
    if (!rows)
        return fail(STATUS_NO_MEMORY, "no memory for %lld keys of a training batch", (long long)capacity);
    batch->key_rows = rows;
    batch->keys_capacity = capacity;
    return STATUS_OK;
}

static void add_rows(struct train_batch *batch, const int32_t *ids, int32_t count, int32_t first_position) {
    for (int32_t i = 0; i < count; i++) {
        batch->ids[batch->rows] = ids[i];
        batch->positions[batch->rows] = first_position + i;
        batch->row_sequence[batch->rows] = batch->sequences;
        batch->key_rows[batch->keys++] = batch->rows++;
    }
}

static void end_sequence(struct train_batch *batch) {
    int64_t length = batch->keys - batch->key_offset[batch->sequences];
    if (length > batch->longest)
        batch->longest = (int32_t)length;
    batch->key_offset[++batch->sequences] = (int32_t)batch->keys;
}

static void add_target(struct train_batch *batch, int32_t row, int32_t id, int32_t place) {
    batch->target_rows[batch->targets] = row;
    batch->target_ids[batch->targets] = id;
    batch->target_places[batch->targets++] = place;
}

enum status train_batch_add_tree(struct train_batch *batch, const int32_t *prompt, int32_t prompt_count,
                                 const int32_t *const *answers, const int32_t *answer_counts, int32_t answer_count) {
    ASSERT(prompt_count >= 1);
    struct tree_size size = measure(prompt_count, answer_counts, answer_count);
    if (batch->rows + size.rows > batch->rows_max || batch->targets + size.targets > batch->targets_max)
        return fail(STATUS_LIMIT, "a tree of %lld rows and %lld targets on top of %d and %d: the limits are %d and %d",
                    (long long)size.rows, (long long)size.targets, batch->rows, batch->targets, batch->rows_max,
                    batch->targets_max);
    TRY(reserve_keys(batch, batch->keys + size.keys));
    const int32_t root = batch->rows, fork = batch->rows + prompt_count - 1;
    int32_t place = batch->targets;
    for (int32_t a = 0, first = place; a < answer_count;
         first += answer_counts[a++]) { /* predicted by the prompt's end */
        if (answer_counts[a] > 0)
            add_target(batch, fork, answers[a][0], first);
    }
    add_rows(batch, prompt, prompt_count, 0);
    for (int32_t a = 0; a < answer_count; place += answer_counts[a++]) {
        int32_t own = answer_counts[a] - 1;
        if (a > 0 && own > 0) {
            end_sequence(batch);
            for (int32_t p = 0; p < prompt_count; p++)
                batch->key_rows[batch->keys++] = root + p;
        }
        for (int32_t t = 0; t < own; t++)
            add_target(batch, batch->rows + t, answers[a][t + 1], place + t + 1);
        if (own > 0)
            add_rows(batch, answers[a], own, prompt_count);
    }
    end_sequence(batch);
    batch->tree_row[++batch->trees] = batch->rows;
    return STATUS_OK;
}
