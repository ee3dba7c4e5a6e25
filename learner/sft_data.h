/* Supervised examples: JSONL of {"system": ..., "question": ..., "answer": ...}, read once and kept as token ids. */
#ifndef CANDOR_LEARNER_SFT_DATA_H
#define CANDOR_LEARNER_SFT_DATA_H

#include <stdint.h>

#include "common/model/chat.h"

#define SFT_LINE_BYTES_MAX (1u << 20)
#define SFT_EXAMPLES_MAX (64u << 20)

struct sft_data {
    struct token_list ids; /* prompt, answer, prompt, answer, ... */
    uint64_t *starts;      /* [2 count + 1]: example i's prompt begins at starts[2i], its answer at starts[2i+1] */
    uint32_t count, capacity;
    uint32_t longest; /* prompt and answer together */
    uint32_t longest_prompt, longest_answer;
};

/* system may be absent or null (the chat form's default). A row that is malformed, lacks a member or is longer than
 * positions_max is STATUS_FORMAT or STATUS_LIMIT with file and line. */
enum status sft_data_load(const char *path, const struct chat *chat, uint32_t positions_max, struct sft_data *out_data);
void sft_data_deinit(struct sft_data *data);

const int32_t *sft_prompt(const struct sft_data *data, uint32_t index, int32_t *out_count);
const int32_t *sft_answer(const struct sft_data *data, uint32_t index, int32_t *out_count);

/* Which example stands at a place of the endless sequence of shuffled epochs: a function of seed, count and place
 * alone. */
struct sft_order {
    uint64_t seed;
    uint32_t count, epoch;
    uint32_t *permutation; /* of `epoch`; one thread */
};
enum status sft_order_init(struct sft_order *order, uint64_t seed, uint32_t count);
void sft_order_deinit(struct sft_order *order);
uint32_t sft_order_at(struct sft_order *order, uint64_t place);

#endif
