#include "actor/stage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct stage {
    struct chain *chain;
    struct digest held;
    uint64_t elements;
    const uint16_t *weights;
    int threads;
    pthread_t thread;
    bool joined;
    atomic_bool done; /* what follows is written before it */
    struct patch *patch;
    enum status status;
    char reason[STATUS_MESSAGE_BYTES];
};

static void *run(void *argument) {
    struct stage *stage = argument;
    stage->status = patch_create(stage->chain, stage->held, stage->elements, stage->threads, &stage->patch);
    if (stage->status == STATUS_OK && stage->weights)
        stage->status = patch_verify(stage->patch, stage->threads, stage->weights);
    if (stage->status != STATUS_OK)
        snprintf(stage->reason, sizeof stage->reason, "%s", status_message());
    atomic_store(&stage->done, true);
    return NULL;
}

enum status stage_start(struct chain *take_chain, struct digest held, uint64_t elements, const uint16_t *weights,
                        int threads, struct stage **out_stage) {
    struct stage *stage = calloc(1, sizeof *stage);
    if (!stage) {
        chain_destroy(&take_chain);
        return fail(STATUS_NO_MEMORY, "no memory to stage a version");
    }
    stage->chain = take_chain;
    stage->held = held;
    stage->elements = elements;
    stage->weights = weights;
    stage->threads = threads;
    stage->joined = pthread_create(&stage->thread, NULL, run, stage) != 0;
    if (stage->joined) /* no thread to be had: generation waits for once */
        run(stage);
    *out_stage = stage;
    return STATUS_OK;
}

static void join(struct stage *stage) {
    if (!stage->joined)
        pthread_join(stage->thread, NULL);
    stage->joined = true;
}

void stage_destroy(struct stage **stage) {
    if (*stage) {
        join(*stage);
        patch_destroy(&(*stage)->patch);
        chain_destroy(&(*stage)->chain);
    }
    free(*stage);
    *stage = NULL;
}

bool stage_done(const struct stage *stage) {
    return atomic_load(&stage->done);
}

enum status stage_wait(struct stage *stage, const struct patch **out_patch) {
    join(stage);
    if (stage->status != STATUS_OK)
        return fail(stage->status, "%s", stage->reason);
    *out_patch = stage->patch;
    return STATUS_OK;
}

const struct chain *stage_chain(const struct stage *stage) {
    return stage->chain;
}
