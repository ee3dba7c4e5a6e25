/* Shared by generator.c (groups), generator_schedule.c (who gets room) and generator_step.c (what is computed).
 * Private. */
#ifndef CANDOR_ACTOR_GENERATOR_INTERNAL_H
#define CANDOR_ACTOR_GENERATOR_INTERNAL_H

#include "actor/generator.h"

#define NO_SEQUENCE (-1)
/* Rows of the canary beside others in a pass: they cost decoding little, and some passes later it is done. */
#define CANARY_ROWS_A_PASS 16
/* Prompts whose last row is computed in one pass: bounds the logits buffer beside one row a live sample. */
#define PROMPTS_A_PASS 16

/* The state of sample i beside result.samples[i]. It is
 *   undrawn   count 0: waits for the prompt's last row
 *   waiting   count > 0, no sequence: waits for room, whether it was parked or never had any
 *   live      has a sequence with `computed` of its tokens
 *   finished */
struct sample_state {
    int32_t sequence;
    uint32_t computed;
    bool finished;
};

struct group {
    struct generation_request request; /* its arrays are ours */
    struct generated_group result;
    uint64_t arrival;
    uint64_t rows;  /* computed for it */
    int32_t prompt; /* sequence that holds the prompt while a sample waits for a fork of it; or NO_SEQUENCE */
    uint32_t unfinished, live;
    bool drawn; /* the first tokens are */
    bool paused, finished;
    struct sample_state samples[];
};

/* The beginning that the prompts of a run share. */
struct prefix {
    int32_t sequence; /* or NO_SEQUENCE */
    int32_t *ids;
    uint32_t count, capacity;
    bool wanted; /* by this pass */
};

/* Consecutive rows of a pass that belong to one sequence. */
struct feed {
    struct group *group; /* NULL: the prefix */
    int32_t sample;      /* -1: the prompt */
    uint32_t rows;
    int32_t wanted; /* index among the wanted rows, -1: none */
};

struct draw {
    struct group *group;
    int32_t sample, wanted;
};

struct generator {
    struct model *model;
    struct infer *infer;
    struct generator_limits limits;
    int32_t pages, wanted_max, draws_max;
    struct group **order; /* [limits.groups_max] unfinished, by (priority, arrival) */
    struct group **done;  /* [limits.groups_max] finished, oldest first */
    int32_t order_count, done_count;
    int32_t live;
    int32_t promised; /* pages that sequences with room still take for tokens they have; kept during schedule_admit */
    uint64_t arrivals;
    struct prefix prefix;
    enum generator_canary canary_state;
    struct digest canary;
    bool canary_ends; /* with this pass: its last row is the first one wanted */
    struct generator_counters counters;
    /* one pass */
    struct infer_row *rows; /* [limits.rows_max] */
    struct feed *feeds;     /* [in_flight + groups_max + 1] */
    int32_t row_count, feed_count, wanted_count;
    struct draw *draws; /* [draws_max], and what infer_sample takes and gives */
    int32_t *draw_rows, *draw_ids;
    float *draw_uniforms, *draw_lps;
};

/* ---- generator_schedule.c ---- */
/* Give sequences to prompts and samples in order of importance. */
enum status schedule_admit(struct generator *generator);
/* The pages did not suffice: take the cache of the least important work. False when only one sample is left. */
bool schedule_evict(struct generator *generator);
void schedule_park(struct generator *generator, struct group *group, int32_t sample);
void schedule_close_prompt(struct generator *generator, struct group *group);
void schedule_drop_prefix(struct generator *generator);
void schedule_park_group(struct generator *generator, struct group *group);
/* Pages that one sample of the request needs at its longest, beside its prompt and the prefix. */
int64_t schedule_pages_most(const struct generation_request *request);

/* ---- generator.c ---- */
void generator_group_done(struct generator *generator, struct group *group);

/* Tokens of the prompt that come from the prefix: its last token is always the group's own, for its logits. */
static inline uint32_t shared_of(const struct generation_request *request) {
    return request->shared_count < request->prompt_count ? request->shared_count : request->prompt_count - 1;
}

#endif
