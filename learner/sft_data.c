#include "learner/sft_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/base/rng.h"

static enum status grow(struct sft_data *data) {
    if (data->count < data->capacity)
        return STATUS_OK;
    if (data->count >= SFT_EXAMPLES_MAX)
        return fail(STATUS_LIMIT, "more than %u examples", SFT_EXAMPLES_MAX);
    uint32_t capacity = data->capacity ? data->capacity * 2 : 1024;
    uint64_t *starts = realloc(data->starts, (2 * (size_t)capacity + 1) * sizeof *starts);
    if (!starts)
        return fail(STATUS_NO_MEMORY, "no memory for %u examples", capacity);
    data->starts = starts;
    data->capacity = capacity;
    return STATUS_OK;
}

static enum status add_row(struct sft_data *data, const struct chat *chat, const json_t *row, const char *name,
                           uint32_t positions_max) {
    const char *question, *answer, *system = NULL;
    const json_t *given = json_object_get(row, "system");
    if (given && !json_is_null(given))
        TRY(json_get_string(row, name, "system", &system));
    TRY(json_get_string(row, name, "question", &question));
    TRY(json_get_string(row, name, "answer", &answer));
    TRY(grow(data));
    size_t start = data->ids.count;
    TRY(chat_encode(chat, system, question, &data->ids, NULL));
    size_t middle = data->ids.count;
    TRY(chat_encode_answer(chat, answer, &data->ids));
    size_t end = data->ids.count;
    if (end - start > positions_max)
        return fail(STATUS_LIMIT, "%s: %zu tokens; right would be at most %u, the model's longest sequence", name,
                    end - start, positions_max);
    uint32_t prompt = (uint32_t)(middle - start), target = (uint32_t)(end - middle), both = prompt + target;
    data->longest_prompt = prompt > data->longest_prompt ? prompt : data->longest_prompt;
    data->longest_answer = target > data->longest_answer ? target : data->longest_answer;
    data->longest = both > data->longest ? both : data->longest;
    data->starts[2 * (size_t)data->count] = start;
    data->starts[2 * (size_t)data->count + 1] = middle;
    data->starts[2 * (size_t)data->count + 2] = end;
    data->count++;
    return STATUS_OK;
}

static enum status load_rows(const char *path, const struct chat *chat, uint32_t positions_max,
                             struct json_lines *lines, struct sft_data *data) {
    for (;;) {
        json_t *row;
        enum status status = json_lines_next(lines, &row);
        if (status == STATUS_NOT_FOUND)
            break;
        TRY(status);
        char name[PATH_BYTES + 32];
        snprintf(name, sizeof name, "%s:%llu", path, (unsigned long long)lines->number);
        status = add_row(data, chat, row, name, positions_max);
        json_decref(row);
        if (status != STATUS_OK)
            return strncmp(status_message(), name, strlen(name)) == 0 ? status : fail_context(status, "%s", name);
    }
    return data->count > 0 ? STATUS_OK : fail(STATUS_FORMAT, "%s: no examples; right would be one object a line", path);
}

enum status sft_data_load(const char *path, const struct chat *chat, uint32_t positions_max,
                          struct sft_data *out_data) {
    struct json_lines lines;
    TRY(json_lines_open(&lines, path, SFT_LINE_BYTES_MAX));
    struct sft_data data = {0};
    enum status status = load_rows(path, chat, positions_max, &lines, &data);
    json_lines_close(&lines);
    if (status != STATUS_OK) {
        sft_data_deinit(&data);
        return status;
    }
    *out_data = data;
    return STATUS_OK;
}

void sft_data_deinit(struct sft_data *data) {
    token_list_deinit(&data->ids);
    free(data->starts);
    *data = (struct sft_data){0};
}

const int32_t *sft_prompt(const struct sft_data *data, uint32_t index, int32_t *out_count) {
    const uint64_t *starts = data->starts + 2 * (size_t)index;
    *out_count = (int32_t)(starts[1] - starts[0]);
    return data->ids.ids + starts[0];
}

const int32_t *sft_answer(const struct sft_data *data, uint32_t index, int32_t *out_count) {
    const uint64_t *starts = data->starts + 2 * (size_t)index;
    *out_count = (int32_t)(starts[2] - starts[1]);
    return data->ids.ids + starts[1];
}

/* ---- order ---- */

static void shuffle(struct sft_order *order, uint32_t epoch) {
    for (uint32_t i = 0; i < order->count; i++)
        order->permutation[i] = i;
    struct rng_key key = {.seed = order->seed, .step = epoch, .stream = RNG_SFT};
    rng_shuffle(&key, order->permutation, order->count);
    order->epoch = epoch;
}

enum status sft_order_init(struct sft_order *order, uint64_t seed, uint32_t count) {
    uint32_t *permutation = malloc(count * sizeof *permutation);
    if (!permutation)
        return fail(STATUS_NO_MEMORY, "no memory for the order of %u examples", count);
    *order = (struct sft_order){.seed = seed, .count = count, .permutation = permutation};
    shuffle(order, 0);
    return STATUS_OK;
}

void sft_order_deinit(struct sft_order *order) {
    free(order->permutation);
    order->permutation = NULL;
}

uint32_t sft_order_at(struct sft_order *order, uint64_t place) {
    uint32_t epoch = (uint32_t)(place / order->count);
    if (epoch != order->epoch)
        shuffle(order, epoch);
    return order->permutation[place % order->count];
}
