/* What must come out of a run, as pure functions. */
#include <string.h>

#include "common/compute/digest.h"
#include "common/weights/content.h"
#include "proto/proto.h"
#include "tests/fault/sim.h"

static void name(struct content *version, uint32_t number) {
    struct digest digest = content_digest(version->data, 0, WEIGHT_BYTES);
    version->manifest = content_manifest(number, digest, ELEMENTS, DTYPE_BF16);
    version->manifest.chunk_bytes = CHUNK_BYTES;
}

void history_begin(struct content *out_version) {
    out_version->history = hash128("version 0", 9);
    for (uint32_t i = 0; i < WEIGHT_BYTES / 8; i++) {
        uint64_t word = digest_key(out_version->history.low + i);
        memcpy(out_version->data + 8 * i, &word, 8);
    }
    name(out_version, 0);
}

/* A step moves few weights: which and by how much, its history says. */
void history_next(const struct content *before, const struct used_group *groups, bool skipped,
                  struct content *out_version) {
    struct {
        struct digest before;
        struct used_group groups[SLOTS];
    } content = {.before = before->history};
    memcpy(content.groups, groups, sizeof content.groups);
    *out_version = *before;
    name(out_version, before->manifest.version + 1);
    if (skipped)
        return;
    out_version->history = hash128(&content, sizeof content);
    for (uint32_t i = 0; i < CHANGED; i++) {
        uint64_t word = digest_key(out_version->history.low + i) ^ out_version->history.high;
        uint16_t weight;
        uint8_t *at = out_version->data + 2 * (word % ELEMENTS);
        memcpy(&weight, at, 2);
        weight = (uint16_t)(weight + 1 + (word >> 32 & 1));
        memcpy(at, &weight, 2);
    }
    name(out_version, before->manifest.version + 1);
}

void history_group(const uint8_t *weights, const struct work_key *key, bool same_class, struct made_group *out_group) {
    struct {
        struct digest weights;
        uint64_t stream, step, slot, sample, same_class;
    } name = {hash128(weights, WEIGHT_BYTES), key->stream, key->step, key->slot, 0, same_class};
    for (uint32_t i = 0; i < SAMPLES; i++) {
        name.sample = i;
        struct digest bits = hash128(&name, sizeof name);
        uint32_t count = 1 + (uint32_t)(bits.high % TOKENS);
        for (uint32_t t = 0; t < count; t++) {
            uint64_t word = digest_key(bits.low + t);
            out_group->ids[i][t] = 10 + (int32_t)(word % 80);
            out_group->logprobs[i][t] = -(float)(word >> 40 & 0xffff) / 4096;
        }
        if (count < TOKENS)
            out_group->ids[i][count - 1] = STOP;
        out_group->counts[i] = count;
    }
}

struct digest history_group_digest(const uint8_t *weights, const struct work_key *key, bool same_class) {
    struct made_group made;
    struct answer_sample samples[SAMPLES];
    history_group(weights, key, same_class, &made);
    for (uint32_t i = 0; i < SAMPLES; i++)
        samples[i] = (struct answer_sample){.ids = made.ids[i], .logprobs = made.logprobs[i], .count = made.counts[i]};
    struct message_group group = {.samples = samples, .sample_count = SAMPLES};
    return group_digest(&group);
}

uint32_t history_version_of_step(uint32_t step, uint32_t lag) {
    return step > lag ? step - lag : 0;
}

void history_make(struct sim *sim) {
    history_begin(&sim->reference[0]);
    for (uint32_t step = 0; step < STEPS; step++) {
        const struct content *used = &sim->reference[history_version_of_step(step, sim->lag)];
        struct used_group groups[SLOTS] = {0};
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            struct work_key key = {.stream = WORK_TRAIN, .step = step, .slot = slot};
            if (!sim_is_poison(sim, &key))
                groups[slot] =
                    (struct used_group){history_group_digest(used->data, &key, true), used->manifest.weights};
        }
        history_next(&sim->reference[step], groups, step == sim->skipped_step, &sim->reference[step + 1]);
    }
}
