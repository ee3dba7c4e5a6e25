/* One pass: decode rows of all live samples, then prompts in order of importance as far as rows allow; then the draws.
 */
#include "actor/generator_internal.h"

#include <math.h>
#include <string.h>

/* Rows for tokens ids[done .. count) of a sequence, as many as fit. last_wanted: the logits behind the last of them are
 * wanted. */
static void feed_rows(struct generator *generator, struct group *group, int32_t sample, int32_t sequence,
                      const int32_t *ids, uint32_t done, uint32_t count, bool last_wanted) {
    uint32_t room = (uint32_t)(generator->limits.rows_max - generator->row_count), rows = count - done;
    bool whole = rows <= room;
    rows = whole ? rows : room;
    if (whole && last_wanted && generator->wanted_count == generator->wanted_max) {
        rows--; /* the last row waits for a pass with room for its logits */
        whole = false;
    }
    if (rows == 0)
        return;
    for (uint32_t i = 0; i < rows; i++)
        generator->rows[generator->row_count++] = (struct infer_row){.sequence = sequence, .token = ids[done + i]};
    struct feed *feed = &generator->feeds[generator->feed_count++];
    *feed = (struct feed){.group = group, .sample = sample, .rows = rows, .wanted = -1};
    if (whole && last_wanted) {
        generator->rows[generator->row_count - 1].want_logits = 1;
        feed->wanted = generator->wanted_count++;
    }
}

static void feed_samples(struct generator *generator, struct group *group, bool decode) {
    uint32_t left = group->live;
    for (uint32_t i = 0; left; i++) {
        const struct sample_state *state = &group->samples[i];
        if (state->sequence == NO_SEQUENCE)
            continue;
        left--;
        const struct generated_sample *sample = &group->result.samples[i];
        if ((sample->count - state->computed == 1) == decode)
            feed_rows(generator, group, (int32_t)i, state->sequence, sample->ids, state->computed, sample->count, true);
    }
}

static void feed_prompt(struct generator *generator, struct group *group) {
    if (group->prompt == NO_SEQUENCE)
        return;
    feed_rows(generator, group, -1, group->prompt, group->request.prompt,
              (uint32_t)infer_sequence_length(generator->infer, group->prompt), group->request.prompt_count,
              !group->drawn);
}

/* Before all others: it is short, and answers wait for it (engine.c). */
static void feed_canary(struct generator *generator) {
    generator->canary_ends = false;
    if (generator->canary_state != GENERATOR_CANARY_UNDER_WAY)
        return;
    int32_t most = generator->limits.rows_max < CANARY_ROWS_A_PASS ? generator->limits.rows_max : CANARY_ROWS_A_PASS;
    generator->row_count = infer_canary_rows(generator->infer, most, generator->rows);
    generator->canary_ends = generator->rows[generator->row_count - 1].want_logits;
    generator->wanted_count = generator->canary_ends;
}

static enum status finish_canary(struct generator *generator) {
    TRY(infer_canary_end(generator->infer, 0, &generator->canary));
    generator->canary_state = GENERATOR_CANARY_DONE;
    return STATUS_OK;
}

static void build_pass(struct generator *generator) {
    generator->row_count = generator->feed_count = generator->wanted_count = 0;
    feed_canary(generator);
    for (int32_t at = 0; at < generator->order_count; at++)
        feed_samples(generator, generator->order[at], true);
    const struct prefix *prefix = &generator->prefix;
    if (prefix->sequence != NO_SEQUENCE && prefix->wanted)
        feed_rows(generator, NULL, -1, prefix->sequence, prefix->ids,
                  (uint32_t)infer_sequence_length(generator->infer, prefix->sequence), prefix->count, false);
    for (int32_t at = 0; at < generator->order_count; at++) {
        feed_samples(generator, generator->order[at], false);
        feed_prompt(generator, generator->order[at]);
    }
}

/* ---- draws ---- */

static void finish_sample(struct generator *generator, struct group *group, int32_t i, bool stopped) {
    group->result.samples[i].stopped = stopped;
    group->samples[i].finished = true;
    if (group->samples[i].sequence != NO_SEQUENCE)
        schedule_park(generator, group, i);
    if (--group->unfinished == 0)
        generator_group_done(generator, group);
}

static void take_token(struct generator *generator, const struct draw *draw, int32_t id, float logprob) {
    struct group *group = draw->group;
    const struct generation_request *request = &group->request;
    struct generated_sample *sample = &group->result.samples[draw->sample];
    sample->ids[sample->count] = id;
    sample->logprobs[sample->count] = logprob;
    sample->count++;
    group->result.tokens++;
    generator->counters.tokens++;
    if (!isfinite(logprob))
        group->result.finite = false;
    bool stopped = false;
    for (uint32_t i = 0; i < request->stop_count && !stopped; i++)
        stopped = request->stops[i] == id;
    if (stopped || sample->count == request->max_new_tokens)
        finish_sample(generator, group, draw->sample, stopped);
}

/* Draw the first count of generator->draws, which share sampling parameters. */
static enum status draw_now(struct generator *generator, const struct sampling *sampling, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        const struct draw *draw = &generator->draws[i];
        struct rng_key key = draw->group->request.key;
        key.sample = (uint16_t)draw->sample;
        generator->draw_rows[i] = draw->wanted;
        generator->draw_uniforms[i] =
            rng_uniform(&key, draw->group->request.prompt_count + draw->group->result.samples[draw->sample].count);
    }
    TRY(infer_sample(generator->infer, sampling, generator->draw_rows, generator->draw_uniforms, count,
                     generator->draw_ids, generator->draw_lps));
    for (int32_t i = 0; i < count; i++)
        take_token(generator, &generator->draws[i], generator->draw_ids[i], generator->draw_lps[i]);
    return STATUS_OK;
}

static struct sampling sampling_of(const struct group *group) {
    return (struct sampling){group->request.temperature, group->request.top_k, group->request.top_p};
}

static bool same_sampling(const struct sampling *a, const struct sampling *b) {
    return a->temperature == b->temperature && a->top_k == b->top_k && a->top_p == b->top_p;
}

struct batch {
    struct sampling sampling;
    int32_t count;
};

static enum status batch_add(struct generator *generator, struct batch *batch, struct group *group, int32_t sample,
                             int32_t wanted) {
    struct sampling sampling = sampling_of(group);
    if (batch->count && (batch->count == generator->draws_max || !same_sampling(&sampling, &batch->sampling))) {
        TRY(draw_now(generator, &batch->sampling, batch->count));
        batch->count = 0;
    }
    batch->sampling = sampling;
    generator->draws[batch->count++] = (struct draw){group, sample, wanted};
    return STATUS_OK;
}

/* All draws that the pass allows. Feeds come in runs of one sampling (a run has one temperature), so batches are large. The last
 * token of a group can be drawn only by its last draw, so no draw meets a group that is gone. */
static enum status draw_all(struct generator *generator) {
    struct batch batch = {.count = 0};
    for (int32_t f = 0; f < generator->feed_count; f++) {
        const struct feed *feed = &generator->feeds[f];
        if (feed->wanted < 0)
            continue;
        if (feed->sample >= 0) {
            TRY(batch_add(generator, &batch, feed->group, feed->sample, feed->wanted));
            continue;
        }
        feed->group->drawn = true;
        for (uint32_t i = 0; i < feed->group->request.samples; i++)
            TRY(batch_add(generator, &batch, feed->group, (int32_t)i, feed->wanted));
    }
    return batch.count ? draw_now(generator, &batch.sampling, batch.count) : STATUS_OK;
}

enum status generator_step(struct generator *generator, bool *out_busy) {
    TRY(schedule_admit(generator));
    enum status status;
    do {
        build_pass(generator);
        if (generator->row_count == 0) {
            ASSERT(!generator_busy(generator));
            *out_busy = false;
            return STATUS_OK;
        }
        status = infer_forward(generator->infer, generator->rows, generator->row_count);
    } while (status == STATUS_AGAIN && schedule_evict(generator));
    TRY(status);
    generator->counters.forwards++;
    generator->counters.rows += (uint64_t)generator->row_count;
    for (int32_t f = 0; f < generator->feed_count; f++) {
        const struct feed *feed = &generator->feeds[f];
        if (feed->group)
            feed->group->rows += feed->rows;
        if (feed->sample >= 0)
            feed->group->samples[feed->sample].computed += feed->rows;
    }
    if (generator->canary_ends)
        TRY(finish_canary(generator));
    TRY(draw_all(generator));
    *out_busy = true;
    return STATUS_OK;
}
