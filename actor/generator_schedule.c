/* Who gets room: handles of sequences, slots in flight, pages of the cache.
 *
 * Work is importance-ordered by (priority, arrival). A group is eligible while the samples of more important groups leave slots
 * in flight; eligible groups get their prompt computed, then their samples enter one by one as forks of it. Work of a greater
 * priority number gives way when a more important group needs a slot or pages; work of the same number does not, so that nothing is
 * computed twice for the sake of arrival order.
 *
 * Entering leaves a reserve of pages, as every live sample will want another page soon. If they run out all the same, the pass is
 * refused by the engine, the least important work is parked and the pass is built again. The most important sample is never
 * parked, and generator_submit refuses what cannot fit alone: so every pass makes progress. */
#include "actor/generator_internal.h"

#include <stdlib.h>
#include <string.h>

static int32_t pages_of(uint32_t tokens) {
    return infer_pages_for((int32_t)tokens);
}

int64_t schedule_pages_most(const struct generation_request *request) {
    return (int64_t)pages_of(shared_of(request)) + pages_of(request->prompt_count) +
           pages_of(request->prompt_count + request->max_new_tokens);
}

void schedule_park(struct generator *generator, struct group *group, int32_t sample) {
    struct sample_state *state = &group->samples[sample];
    ASSERT(state->sequence != NO_SEQUENCE);
    infer_sequence_close(generator->infer, state->sequence);
    state->sequence = NO_SEQUENCE;
    state->computed = 0;
    group->live--;
    generator->live--;
    if (!state->finished)
        generator->counters.parked++;
}

void schedule_close_prompt(struct generator *generator, struct group *group) {
    if (group->prompt == NO_SEQUENCE)
        return;
    infer_sequence_close(generator->infer, group->prompt);
    group->prompt = NO_SEQUENCE;
}

void schedule_drop_prefix(struct generator *generator) {
    if (generator->prefix.sequence != NO_SEQUENCE)
        infer_sequence_close(generator->infer, generator->prefix.sequence);
    generator->prefix.sequence = NO_SEQUENCE;
    generator->prefix.count = 0;
}

void schedule_park_group(struct generator *generator, struct group *group) {
    schedule_close_prompt(generator, group);
    for (uint32_t i = 0; i < group->request.samples; i++)
        if (group->samples[i].sequence != NO_SEQUENCE)
            schedule_park(generator, group, (int32_t)i);
}

/* The last live sample of a group. */
static int32_t last_live(const struct group *group) {
    int32_t i = (int32_t)group->request.samples - 1;
    while (group->samples[i].sequence == NO_SEQUENCE)
        i--;
    return i;
}

/* Take something from the last group in order that has anything and stands behind index `first`. Slots come free from live
 * samples only. */
static bool take_from_behind(struct generator *generator, int32_t first, bool slot) {
    for (int32_t i = generator->order_count - 1; i > first; i--) {
        struct group *group = generator->order[i];
        if (group->live) {
            schedule_park(generator, group, last_live(group));
            return true;
        }
        if (group->prompt != NO_SEQUENCE && !slot) {
            schedule_close_prompt(generator, group);
            return true;
        }
    }
    return false;
}

bool schedule_evict(struct generator *generator) {
    int32_t first = 0;
    while (first < generator->order_count && !generator->order[first]->live &&
           generator->order[first]->prompt == NO_SEQUENCE)
        first++;
    if (take_from_behind(generator, first, false))
        return true;
    struct group *group = first < generator->order_count ? generator->order[first] : NULL;
    if (group && group->live > 1) {
        schedule_park(generator, group, last_live(group));
        return true;
    }
    if (group && group->live == 1 && group->prompt != NO_SEQUENCE) {
        schedule_close_prompt(generator, group);
        return true;
    }
    /* A prompt under way keeps its beginning as its own pages. */
    if (group && generator->prefix.sequence != NO_SEQUENCE) {
        schedule_drop_prefix(generator);
        return true;
    }
    return false;
}

/* The index of the last group that need not give way to order[at]. With nothing live the most important group may take from all
 * others: somebody must move. */
static int32_t last_equal(const struct generator *generator, int32_t at) {
    if (generator->live == 0)
        return at;
    int32_t last = at;
    while (last + 1 < generator->order_count &&
           generator->order[last + 1]->request.priority <= generator->order[at]->request.priority)
        last++;
    return last;
}

static int32_t prefix_promise(const struct generator *generator) {
    const struct prefix *prefix = &generator->prefix;
    return prefix->sequence == NO_SEQUENCE
               ? 0
               : pages_of(prefix->count) - infer_pages_for(infer_sequence_length(generator->infer, prefix->sequence));
}

static void recount_promised(struct generator *generator) {
    int32_t promised = prefix_promise(generator);
    for (int32_t at = 0; at < generator->order_count; at++) {
        const struct group *group = generator->order[at];
        uint32_t prompt = group->request.prompt_count;
        if (group->prompt != NO_SEQUENCE)
            promised += pages_of(prompt) - infer_pages_for(infer_sequence_length(generator->infer, group->prompt));
        for (uint32_t i = 0; group->live && i < group->request.samples; i++)
            if (group->samples[i].sequence != NO_SEQUENCE)
                promised +=
                    pages_of(prompt + group->result.samples[i].count) - pages_of(prompt + group->samples[i].computed);
    }
    generator->promised = promised;
}

/* A slot in flight (slot) and pages for order[at], from work that gives way if need be. */
static bool make_room(struct generator *generator, int32_t at, int32_t pages, bool slot) {
    while (slot && generator->live >= generator->limits.in_flight) {
        if (!take_from_behind(generator, last_equal(generator, at), true))
            return false;
        recount_promised(generator);
    }
    for (;;) {
        /* The reserve lets every live sample grow by a quarter of a page. */
        int32_t reserve = generator->live ? generator->live / 4 + 1 : 0;
        if (infer_pages_free(generator->infer) >= pages + generator->promised + reserve)
            return true;
        if (!take_from_behind(generator, last_equal(generator, at), false)) {
            if (generator->live || generator->prefix.sequence == NO_SEQUENCE || generator->prefix.wanted)
                return false;
            schedule_drop_prefix(generator);
        }
        recount_promised(generator);
    }
}

static bool prefix_matches(const struct prefix *prefix, const struct generation_request *request) {
    uint32_t shared = shared_of(request);
    return prefix->sequence != NO_SEQUENCE && prefix->count == shared &&
           memcmp(prefix->ids, request->prompt, shared * sizeof *prefix->ids) == 0;
}

static enum status prefix_begin(struct generator *generator, const struct generation_request *request) {
    struct prefix *prefix = &generator->prefix;
    uint32_t shared = shared_of(request);
    if (shared > prefix->capacity) {
        int32_t *ids = realloc(prefix->ids, shared * sizeof *ids);
        if (!ids)
            return fail(STATUS_NO_MEMORY, "no memory: prefix of %u tokens", shared);
        prefix->ids = ids;
        prefix->capacity = shared;
    }
    TRY(infer_sequence_open(generator->infer, &prefix->sequence));
    memcpy(prefix->ids, request->prompt, shared * sizeof *prefix->ids);
    prefix->count = shared;
    generator->promised += pages_of(shared);
    return STATUS_OK;
}

enum progress { READY, LATER, NO_ROOM };

/* The prefix of order[at]. It is begun unless this pass already works on another one. */
static enum status prefix_prepare(struct generator *generator, int32_t at, enum progress *out_progress) {
    struct prefix *prefix = &generator->prefix;
    const struct generation_request *request = &generator->order[at]->request;
    *out_progress = LATER;
    if (!prefix_matches(prefix, request)) {
        if (prefix->wanted)
            return STATUS_OK;
        generator->promised -= prefix_promise(generator);
        schedule_drop_prefix(generator);
        if (!make_room(generator, at, pages_of(shared_of(request)), false)) {
            *out_progress = NO_ROOM;
            return STATUS_OK;
        }
        TRY(prefix_begin(generator, request));
    }
    prefix->wanted = true;
    if (infer_sequence_length(generator->infer, prefix->sequence) == (int32_t)prefix->count)
        *out_progress = READY;
    return STATUS_OK;
}

/* A sequence for the prompt of order[at]. */
static enum status prompt_begin(struct generator *generator, int32_t at, enum progress *out_progress) {
    struct group *group = generator->order[at];
    uint32_t shared = shared_of(&group->request);
    *out_progress = READY;
    if (shared) {
        TRY(prefix_prepare(generator, at, out_progress));
        if (*out_progress != READY)
            return STATUS_OK;
    }
    int32_t pages = pages_of(group->request.prompt_count) - (int32_t)(shared / KV_PAGE_TOKENS);
    if (!make_room(generator, at, pages, false)) {
        *out_progress = NO_ROOM;
        return STATUS_OK;
    }
    if (shared)
        TRY(infer_sequence_fork(generator->infer, generator->prefix.sequence, (int32_t)shared, &group->prompt));
    else
        TRY(infer_sequence_open(generator->infer, &group->prompt));
    generator->promised += pages_of(group->request.prompt_count) - pages_of(shared);
    return STATUS_OK;
}

/* The waiting samples of order[at], whose prompt is computed, enter one by one. */
static enum status samples_enter(struct generator *generator, int32_t at, enum progress *out_progress) {
    struct group *group = generator->order[at];
    uint32_t prompt = group->request.prompt_count;
    for (uint32_t i = 0; i < group->request.samples; i++) {
        struct sample_state *sample = &group->samples[i];
        if (sample->finished || sample->sequence != NO_SEQUENCE)
            continue;
        uint32_t tokens = prompt + group->result.samples[i].count;
        if (!make_room(generator, at, pages_of(tokens) - (int32_t)(prompt / KV_PAGE_TOKENS), true)) {
            *out_progress = NO_ROOM;
            return STATUS_OK;
        }
        TRY(infer_sequence_fork(generator->infer, group->prompt, (int32_t)prompt, &sample->sequence));
        sample->computed = 0;
        group->live++;
        generator->live++;
        generator->promised += pages_of(tokens) - pages_of(prompt);
    }
    schedule_close_prompt(generator, group); /* every unfinished sample has its own sequence now */
    *out_progress = READY;
    return STATUS_OK;
}

enum status schedule_admit(struct generator *generator) {
    int64_t ahead = 0; /* unfinished samples of more important groups */
    enum progress progress = READY;
    generator->prefix.wanted = false;
    recount_promised(generator);
    for (int32_t at = 0; at < generator->order_count && ahead < generator->limits.in_flight && progress != NO_ROOM;
         at++) {
        struct group *group = generator->order[at];
        if (group->paused)
            continue;
        ahead += group->unfinished;
        if (group->live == group->unfinished)
            continue;
        if (group->prompt == NO_SEQUENCE)
            TRY(prompt_begin(generator, at, &progress));
        else if (group->drawn &&
                 infer_sequence_length(generator->infer, group->prompt) == (int32_t)group->request.prompt_count)
            TRY(samples_enter(generator, at, &progress));
    }
    return STATUS_OK;
}
