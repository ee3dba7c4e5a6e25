#include "proto/proto.h"

#include <string.h>

struct digest group_digest(const struct message_group *group) {
    struct digest parts[2 * SAMPLES_MAX];
    ASSERT(group->sample_count <= SAMPLES_MAX);
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct answer_sample *sample = &group->samples[i];
        parts[2 * i] = hash128(sample->ids, sample->count * sizeof sample->ids[0]);
        parts[2 * i + 1] = hash128(sample->logprobs, sample->count * sizeof sample->logprobs[0]);
    }
    return hash128(parts, 2 * group->sample_count * sizeof parts[0]);
}

/* Upper bounds of what surrounds the variable parts: names of keys, headers, numbers at their longest, labels at
 * LABEL_BYTES_MAX. tests/unit/proto checks them against the largest messages. */
enum {
    SAMPLE_FRAME_BYTES = 64,
    GROUP_FRAME_BYTES = 2048,
    SCORE_FRAME_BYTES = 64,
    TEXT_HEADER_BYTES = 5,
};

static uint64_t grading_weigh(const struct grading *grading) {
    uint64_t bytes = grading->question.bytes;
    for (uint32_t i = 0; i < grading->alias_count; i++)
        bytes += TEXT_HEADER_BYTES + grading->aliases[i].bytes;
    return bytes;
}

uint64_t lease_weigh(const struct message_lease *lease) {
    uint64_t tokens = lease->max_new_tokens;
    uint64_t sample = SAMPLE_FRAME_BYTES + tokens * (sizeof(int32_t) + sizeof(float)) + ANSWER_TEXT_BYTES_MAX(tokens);
    return GROUP_FRAME_BYTES + grading_weigh(&lease->grading) + lease->samples * sample;
}

uint64_t scored_weigh(const struct message_lease *lease) {
    return lease_weigh(lease) + GROUP_FRAME_BYTES + (uint64_t)lease->samples * SCORE_FRAME_BYTES;
}

struct text text_of(const char *string) {
    return string ? (struct text){.data = string, .bytes = (uint32_t)strlen(string)} : (struct text){.data = ""};
}

bool text_equal(struct text a, struct text b) {
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

bool work_key_equal(const struct work_key *a, const struct work_key *b) {
    return a->run_id == b->run_id && a->stream == b->stream && a->step == b->step && a->slot == b->slot;
}
