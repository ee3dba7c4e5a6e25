/* The generator: continuous batching over the inference engine. Groups go in, finished groups come out; a question's prompt is
 * computed once for its samples, the prompts' shared beginning once per version. Pure computation: no socket, no clock.
 *
 * The bits of a sample depend on (weights, prompt, rng key) alone, not on what else is generated, on parking, or on order. */
#ifndef CANDOR_ACTOR_GENERATOR_H
#define CANDOR_ACTOR_GENERATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/rng.h"
#include "common/model/infer.h"

struct generator;

struct generator_limits {
    int32_t in_flight; /* samples generated at once */
    int32_t rows_max;  /* rows of a forward pass: decode rows and prefill chunk */
    int64_t kv_tokens;
    int32_t groups_max; /* groups inside: waiting, generating, parked */
};

/* One question. Arrays are copied. */
struct generation_request {
    uint64_t id;       /* the caller's: a lease number */
    uint32_t priority; /* lower first; a lower one parks higher ones when room is short */
    const int32_t *prompt;
    uint32_t prompt_count, shared_count;
    uint32_t samples;
    float temperature;
    int32_t top_k; /* 0: off */
    float top_p;   /* 1: off */
    uint32_t max_new_tokens;
    const int32_t *stops;
    uint32_t stop_count;
    struct rng_key key; /* sample 0's; sample i has key.sample = i; position: absolute position of the token drawn */
};

struct generated_sample {
    int32_t *ids;
    float *logprobs;
    uint32_t count;
    bool stopped; /* by a stop token; else by length */
};

/* Owned by the generator until generator_release. */
struct generated_group {
    uint64_t id;
    uint32_t sample_count;
    struct generated_sample *samples;
    uint64_t tokens; /* drawn */
    bool finite;     /* false: a log-probability is NaN or infinite; the group is not worth delivering */
};

/* Since creation. */
struct generator_counters {
    uint64_t tokens;   /* drawn */
    uint64_t forwards; /* forward passes */
    uint64_t rows;     /* rows of them: decode, prompt, and what parking made to be computed again */
    uint64_t parked;   /* samples that lost their cache */
    uint32_t live;     /* samples with a cache now */
    uint32_t groups;   /* inside now, finished ones included */
};

enum status generator_create(struct model *model, const struct generator_limits *limits,
                             struct generator **out_generator);
void generator_destroy(struct generator **generator);

/* STATUS_AGAIN when groups_max are inside, STATUS_EXISTS when id is, STATUS_LIMIT when the request can never fit (cache,
 * positions of the model), STATUS_FORMAT when it makes no sense: no prompt, an id outside the vocabulary, no samples. */
enum status generator_submit(struct generator *generator, const struct generation_request *request);
/* Forget a group wherever it is; absent is fine. */
void generator_cancel(struct generator *generator, uint64_t id);
/* One forward pass and the draws that it allows. *out_busy false: nothing to do. After a failure (device fault) the generator
 * can only be destroyed. */
enum status generator_step(struct generator *generator, bool *out_busy);
/* The finished group that has waited longest, the same until it is released; or NULL. */
const struct generated_group *generator_finished(struct generator *generator);
void generator_release(struct generator *generator, uint64_t id);

/* Before a weight swap: unfinished samples keep their tokens and lose their cache; they are prefilled again later, with the
 * same bits. They go on only while the model holds the version they began with: the caller sees to that by pausing. */
void generator_park_all(struct generator *generator);
/* A paused group stands still, parked (its version is not the loaded one). Absent is fine. */
void generator_pause(struct generator *generator, uint64_t id, bool paused);

/* After a weight swap: the canary (infer.h) is computed anew, a few rows a pass beside the samples. */
void generator_canary_begin(struct generator *generator);
enum generator_canary { GENERATOR_CANARY_NONE, GENERATOR_CANARY_UNDER_WAY, GENERATOR_CANARY_DONE };
/* out_canary is written when it is done. */
enum generator_canary generator_canary(const struct generator *generator, struct digest *out_canary);

bool generator_busy(const struct generator *generator); /* unpaused work inside, or a canary under way */

/* How far a group is. */
struct generation_progress {
    uint64_t work;   /* grows with all that is computed for it: prompt, draws, what parking costs */
    uint64_t tokens; /* drawn */
    bool begun;
    bool standing; /* begun, and nothing of it has a cache: parked or paused */
};
/* false: absent. */
bool generator_find(const struct generator *generator, uint64_t id, struct generation_progress *out_progress);
void generator_count(const struct generator *generator, struct generator_counters *out_counters);
/* Asserts the invariants of generator.c; for tests. */
void generator_check(const struct generator *generator);

#endif
