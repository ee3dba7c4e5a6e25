/* Groups from submit to release. A group is
 *   waiting or generating   in order[], most important first
 *   finished                in done[], oldest first, until generator_release
 *
 * Invariants (generator_check):
 *   G1 order[] ascends by (priority, arrival); a group is in exactly one of the arrays.
 *   G2 live is the number of samples with a sequence: at most in_flight; a live sample is unfinished, drawn, and has at least
 *      one token that is not computed.
 *   G3 a paused group has no sequence at all.
 *   G4 every sequence of the engine is the prefix's, a prompt's or a live sample's. */
#include "actor/generator.h"

#include <stdlib.h>
#include <string.h>

#include "actor/generator_internal.h"

/* ---- creation ---- */

static enum status allocate_arrays(struct generator *generator) {
    size_t groups = (size_t)generator->limits.groups_max, rows = (size_t)generator->limits.rows_max;
    size_t draws = (size_t)generator->draws_max;
    generator->order = calloc(groups, sizeof *generator->order);
    generator->done = calloc(groups, sizeof *generator->done);
    generator->rows = calloc(rows, sizeof *generator->rows);
    generator->feeds = calloc((size_t)generator->limits.in_flight + groups + 1, sizeof *generator->feeds);
    generator->draws = calloc(draws, sizeof *generator->draws);
    generator->draw_rows = calloc(draws, sizeof *generator->draw_rows);
    generator->draw_ids = calloc(draws, sizeof *generator->draw_ids);
    generator->draw_uniforms = calloc(draws, sizeof *generator->draw_uniforms);
    generator->draw_lps = calloc(draws, sizeof *generator->draw_lps);
    if (!generator->order || !generator->done || !generator->rows || !generator->feeds || !generator->draws ||
        !generator->draw_rows || !generator->draw_ids || !generator->draw_uniforms || !generator->draw_lps)
        return fail(STATUS_NO_MEMORY, "no memory: generator of %d rows, %d groups", generator->limits.rows_max,
                    generator->limits.groups_max);
    return STATUS_OK;
}

enum status generator_create(struct model *model, const struct generator_limits *limits,
                             struct generator **out_generator) {
    ASSERT(limits->in_flight > 0 && limits->rows_max >= limits->in_flight && limits->groups_max > 0);
    struct generator *generator = calloc(1, sizeof *generator);
    if (!generator)
        return fail(STATUS_NO_MEMORY, "no memory: generator");
    generator->model = model;
    generator->limits = *limits;
    generator->prefix.sequence = NO_SEQUENCE;
    generator->wanted_max = limits->in_flight + PROMPTS_A_PASS;
    if (generator->wanted_max > limits->rows_max)
        generator->wanted_max = limits->rows_max;
    generator->draws_max = limits->rows_max;
    struct infer_limits infer_limits = {
        .rows_max = limits->rows_max,
        .sequences_max = limits->in_flight + limits->groups_max + 1,
        .kv_tokens = limits->kv_tokens,
        .logit_rows_max = generator->wanted_max,
    };
    enum status status;
    TRY_GOTO(allocate_arrays(generator), failed);
    TRY_GOTO(infer_create(model, &infer_limits, &generator->infer), failed);
    generator->pages = infer_pages_free(generator->infer);
    *out_generator = generator;
    return STATUS_OK;
failed:
    generator_destroy(&generator);
    return status;
}

static void group_destroy(struct group *group) {
    if (!group)
        return;
    for (uint32_t i = 0; group->result.samples && i < group->request.samples; i++) {
        free(group->result.samples[i].ids);
        free(group->result.samples[i].logprobs);
    }
    free(group->result.samples);
    free((void *)(uintptr_t)group->request.prompt);
    free((void *)(uintptr_t)group->request.stops);
    free(group);
}

void generator_destroy(struct generator **generator) {
    struct generator *self = *generator;
    *generator = NULL;
    if (!self)
        return;
    for (int32_t i = 0; i < self->order_count; i++)
        group_destroy(self->order[i]);
    for (int32_t i = 0; i < self->done_count; i++)
        group_destroy(self->done[i]);
    infer_destroy(&self->infer);
    free(self->order);
    free(self->done);
    free(self->rows);
    free(self->feeds);
    free(self->draws);
    free(self->draw_rows);
    free(self->draw_ids);
    free(self->draw_uniforms);
    free(self->draw_lps);
    free(self->prefix.ids);
    free(self);
}

/* ---- finding ---- */

static int32_t find(struct group *const *groups, int32_t count, uint64_t id) {
    for (int32_t i = 0; i < count; i++)
        if (groups[i]->request.id == id)
            return i;
    return -1;
}

static struct group *take_at(struct group **groups, int32_t *count, int32_t at) {
    struct group *group = groups[at];
    memmove(&groups[at], &groups[at + 1], (size_t)(*count - at - 1) * sizeof *groups);
    (*count)--;
    return group;
}

/* ---- submitting ---- */

static enum status check_request(const struct generator *generator, const struct generation_request *request) {
    if (request->prompt_count == 0 || request->samples == 0 || request->samples > UINT16_MAX ||
        request->max_new_tokens == 0 || request->shared_count > request->prompt_count)
        return fail(STATUS_FORMAT,
                    "request: prompt %u (shared %u), samples %u, max_new_tokens %u: each at least 1, shared within "
                    "the prompt",
                    request->prompt_count, request->shared_count, request->samples, request->max_new_tokens);
    if (!(request->temperature >= 0) || !(request->top_p > 0) || request->top_k < 0)
        return fail(STATUS_FORMAT, "request: temperature %g, top_p %g, top_k %d", (double)request->temperature,
                    (double)request->top_p, request->top_k);
    for (uint32_t i = 0; i < request->prompt_count; i++)
        if (request->prompt[i] < 0 || request->prompt[i] >= generator->model->config.vocab)
            return fail(STATUS_FORMAT, "request: prompt id %d at %u: the vocabulary has %d", request->prompt[i], i,
                        generator->model->config.vocab);
    uint64_t longest = (uint64_t)request->prompt_count + request->max_new_tokens;
    if (longest > (uint64_t)generator->model->rope_positions)
        return fail(STATUS_LIMIT, "request: %u prompt tokens and %u new ones: the model was opened for %d positions",
                    request->prompt_count, request->max_new_tokens, generator->model->rope_positions);
    if (schedule_pages_most(request) > generator->pages)
        return fail(STATUS_LIMIT, "actor.kv_tokens = %lld: one answer of up to %llu tokens needs %lld",
                    (long long)generator->limits.kv_tokens, (unsigned long long)longest,
                    (long long)schedule_pages_most(request) * KV_PAGE_TOKENS);
    return STATUS_OK;
}

static int32_t *copy_ids(const int32_t *ids, uint32_t count) {
    int32_t *copy = malloc((count ? count : 1) * sizeof *copy);
    if (copy && count)
        memcpy(copy, ids, count * sizeof *copy);
    return copy;
}

static struct group *group_create(const struct generation_request *request) {
    struct group *group = calloc(1, sizeof *group + request->samples * sizeof *group->samples);
    if (!group)
        return NULL;
    group->request = *request;
    group->request.prompt = copy_ids(request->prompt, request->prompt_count);
    group->request.stops = copy_ids(request->stops, request->stop_count);
    group->result.samples = calloc(request->samples, sizeof *group->result.samples);
    bool ok = group->request.prompt && group->request.stops && group->result.samples;
    for (uint32_t i = 0; ok && i < request->samples; i++) {
        struct generated_sample *sample = &group->result.samples[i];
        sample->ids = malloc(request->max_new_tokens * sizeof *sample->ids);
        sample->logprobs = malloc(request->max_new_tokens * sizeof *sample->logprobs);
        ok = sample->ids && sample->logprobs;
        group->samples[i].sequence = NO_SEQUENCE;
    }
    if (!ok) {
        group_destroy(group);
        return NULL;
    }
    group->result.id = request->id;
    group->result.sample_count = request->samples;
    group->result.finite = true;
    group->prompt = NO_SEQUENCE;
    group->unfinished = request->samples;
    return group;
}

enum status generator_submit(struct generator *generator, const struct generation_request *request) {
    if (generator->order_count + generator->done_count == generator->limits.groups_max)
        return fail(STATUS_AGAIN, "generator: %d groups are inside", generator->limits.groups_max);
    if (find(generator->order, generator->order_count, request->id) >= 0 ||
        find(generator->done, generator->done_count, request->id) >= 0)
        return fail(STATUS_EXISTS, "generator: group %llu is inside", (unsigned long long)request->id);
    TRY(check_request(generator, request));
    struct group *group = group_create(request);
    if (!group)
        return fail(STATUS_NO_MEMORY, "no memory: group of %u samples of %u tokens", request->samples,
                    request->max_new_tokens);
    group->arrival = generator->arrivals++;
    int32_t at = generator->order_count++;
    for (; at > 0 && generator->order[at - 1]->request.priority > request->priority; at--)
        generator->order[at] = generator->order[at - 1];
    generator->order[at] = group;
    return STATUS_OK;
}

/* ---- leaving ---- */

void generator_group_done(struct generator *generator, struct group *group) {
    schedule_close_prompt(generator, group);
    group->finished = true;
    take_at(generator->order, &generator->order_count,
            find(generator->order, generator->order_count, group->request.id));
    generator->done[generator->done_count++] = group;
}

void generator_cancel(struct generator *generator, uint64_t id) {
    int32_t at = find(generator->order, generator->order_count, id);
    if (at < 0) {
        generator_release(generator, id);
        return;
    }
    schedule_park_group(generator, generator->order[at]);
    group_destroy(take_at(generator->order, &generator->order_count, at));
}

const struct generated_group *generator_finished(struct generator *generator) {
    return generator->done_count ? &generator->done[0]->result : NULL;
}

void generator_release(struct generator *generator, uint64_t id) {
    int32_t at = find(generator->done, generator->done_count, id);
    if (at >= 0)
        group_destroy(take_at(generator->done, &generator->done_count, at));
}

void generator_park_all(struct generator *generator) {
    for (int32_t i = 0; i < generator->order_count; i++)
        schedule_park_group(generator, generator->order[i]);
    schedule_drop_prefix(generator);
    infer_reset(generator->infer);
}

void generator_pause(struct generator *generator, uint64_t id, bool paused) {
    int32_t at = find(generator->order, generator->order_count, id);
    if (at < 0)
        return;
    generator->order[at]->paused = paused;
    if (paused)
        schedule_park_group(generator, generator->order[at]);
}

void generator_canary_begin(struct generator *generator) {
    generator->canary_state = GENERATOR_CANARY_UNDER_WAY;
    infer_canary_begin(generator->infer);
}

/* ---- queries ---- */

bool generator_busy(const struct generator *generator) {
    if (generator->canary_state == GENERATOR_CANARY_UNDER_WAY)
        return true;
    for (int32_t i = 0; i < generator->order_count; i++)
        if (!generator->order[i]->paused)
            return true;
    return false;
}

bool generator_find(const struct generator *generator, uint64_t id, struct generation_progress *out_progress) {
    int32_t at = find(generator->order, generator->order_count, id);
    const struct group *group = at >= 0 ? generator->order[at] : NULL;
    if (!group && (at = find(generator->done, generator->done_count, id)) >= 0)
        group = generator->done[at];
    if (!group)
        return false;
    *out_progress = (struct generation_progress){
        .work = group->rows + group->result.tokens,
        .tokens = group->result.tokens,
        .begun = group->rows > 0,
        .standing = group->rows > 0 && group->live == 0 && group->prompt == NO_SEQUENCE && !group->finished,
    };
    return true;
}

void generator_count(const struct generator *generator, struct generator_counters *out_counters) {
    *out_counters = generator->counters;
    out_counters->live = (uint32_t)generator->live;
    out_counters->groups = (uint32_t)(generator->order_count + generator->done_count);
}

enum generator_canary generator_canary(const struct generator *generator, struct digest *out_canary) {
    if (generator->canary_state == GENERATOR_CANARY_DONE)
        *out_canary = generator->canary;
    return generator->canary_state;
}

static uint32_t check_group(const struct group *group) {
    uint32_t live = 0, unfinished = 0;
    for (uint32_t i = 0; i < group->request.samples; i++) {
        const struct sample_state *state = &group->samples[i];
        unfinished += !state->finished;
        if (state->sequence == NO_SEQUENCE)
            continue;
        live++;
        ASSERT(!state->finished && group->drawn && state->computed < group->result.samples[i].count); /* G2 */
    }
    ASSERT(live == group->live && unfinished == group->unfinished);
    ASSERT(!group->paused || (live == 0 && group->prompt == NO_SEQUENCE)); /* G3 */
    return live;
}

void generator_check(const struct generator *generator) {
    int32_t live = 0;
    for (int32_t i = 0; i < generator->order_count; i++) {
        const struct group *group = generator->order[i], *before = i ? generator->order[i - 1] : NULL;
        ASSERT(!before || before->request.priority < group->request.priority ||
               (before->request.priority == group->request.priority && before->arrival < group->arrival)); /* G1 */
        ASSERT(!group->finished && group->unfinished > 0);
        live += (int32_t)check_group(group);
    }
    ASSERT(live == generator->live && live <= generator->limits.in_flight); /* G2 */
    for (int32_t i = 0; i < generator->done_count; i++) {
        ASSERT(generator->done[i]->finished && check_group(generator->done[i]) == 0);
        ASSERT(generator->done[i]->prompt == NO_SEQUENCE); /* G4 */
    }
}
