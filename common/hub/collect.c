#include "common/hub/collect.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/plant.h"

struct slot_memory {
    struct arena arena;
    struct message_scored scored;
};

struct collected {
    struct completed_work work;
    struct slot_memory *slots; /* [work.group_count] */
    bool completed;
    double offered_at;
    struct link of_collect;
};

struct collect {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct link works;
    enum status failed; /* STATUS_OK: not */
    char text[STATUS_MESSAGE_BYTES];
};

enum status collect_create(struct collect **out_collect) {
    struct collect *collect = calloc(1, sizeof *collect);
    if (!collect)
        return fail(STATUS_NO_MEMORY, "collect: no memory");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&collect->mutex, NULL);
    pthread_cond_init(&collect->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&collect->works);
    *out_collect = collect;
    return STATUS_OK;
}

static void free_collected(struct collected *collected) {
    for (uint32_t i = 0; collected->slots && i < collected->work.group_count; i++)
        arena_deinit(&collected->slots[i].arena);
    free(collected->slots);
    free(collected->work.groups);
    free(collected->work.arrivals);
    free(collected);
}

void collect_destroy(struct collect **collect) {
    if (!*collect)
        return;
    while (!list_empty(&(*collect)->works)) {
        struct link *first = (*collect)->works.next;
        list_remove(first);
        free_collected(LIST_ELEMENT(first, struct collected, of_collect));
    }
    pthread_mutex_destroy(&(*collect)->mutex);
    pthread_cond_destroy(&(*collect)->changed);
    free(*collect);
    *collect = NULL;
}

/* With the mutex held. */
static struct collected *find(const struct collect *collect, uint8_t stream, uint32_t step) {
    for (struct link *link = collect->works.next; link != &collect->works; link = link->next) {
        struct collected *collected = LIST_ELEMENT(link, struct collected, of_collect);
        if (collected->work.stream == stream && collected->work.step == step)
            return collected;
    }
    return NULL;
}

enum status collect_begin(struct collect *collect, uint8_t stream, uint32_t step, uint32_t slot_count) {
    struct collected *collected = calloc(1, sizeof *collected);
    if (!collected)
        return fail(STATUS_NO_MEMORY, "step %u: no memory", step);
    collected->work = (struct completed_work){.stream = stream, .step = step, .group_count = slot_count};
    collected->offered_at = clock_seconds();
    collected->slots = calloc(slot_count, sizeof collected->slots[0]);
    collected->work.groups = calloc(slot_count, sizeof(struct message_scored *));
    collected->work.arrivals = calloc(slot_count, sizeof collected->work.arrivals[0]);
    if (!collected->slots || !collected->work.groups || !collected->work.arrivals) {
        free_collected(collected);
        return fail(STATUS_NO_MEMORY, "step %u: no memory", step);
    }
    collect_forget(collect, stream, step);
    pthread_mutex_lock(&collect->mutex);
    list_push_back(&collect->works, &collected->of_collect);
    pthread_mutex_unlock(&collect->mutex);
    return STATUS_OK;
}

void collect_forget(struct collect *collect, uint8_t stream, uint32_t step) {
    pthread_mutex_lock(&collect->mutex);
    struct collected *collected = find(collect, stream, step);
    if (collected)
        list_remove(&collected->of_collect);
    pthread_cond_broadcast(&collect->changed);
    pthread_mutex_unlock(&collect->mutex);
    if (collected)
        free_collected(collected);
}

void collect_group(struct collect *collect, const struct message_scored *scored, struct arena *take_arena) {
    pthread_mutex_lock(&collect->mutex);
    const struct work_key *key = &scored->group.key;
    struct collected *collected = find(collect, key->stream, key->step);
    ASSERT(collected && key->slot < collected->work.group_count && !collected->work.groups[key->slot]); /* I1 */
    struct slot_memory *slot = &collected->slots[key->slot];
    slot->scored = *scored;
    slot->arena = *take_arena;
    arena_init(take_arena, slot->arena.bytes_max);
    collected->work.groups[key->slot] = &slot->scored;
    collected->work.arrivals[collected->work.arrival_count++] = key->slot;
    pthread_mutex_unlock(&collect->mutex);
}

void collect_completed(struct collect *collect, uint8_t stream, uint32_t step) {
    pthread_mutex_lock(&collect->mutex);
    struct collected *collected = find(collect, stream, step);
    ASSERT(collected);
    for (uint32_t i = 0; PLANTED(ARRIVAL_ORDER) && i < collected->work.arrival_count; i++)
        collected->work.groups[i] = &collected->slots[collected->work.arrivals[i]].scored;
    collected->completed = true;
    collected->work.waited_seconds = clock_seconds() - collected->offered_at;
    pthread_cond_broadcast(&collect->changed);
    pthread_mutex_unlock(&collect->mutex);
}

void collect_fail(struct collect *collect, enum status status, const char *text) {
    pthread_mutex_lock(&collect->mutex);
    if (collect->failed == STATUS_OK) {
        collect->failed = status;
        snprintf(collect->text, sizeof collect->text, "%s", text);
    }
    pthread_cond_broadcast(&collect->changed);
    pthread_mutex_unlock(&collect->mutex);
}

static struct timespec deadline_after(int timeout_ms) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += timeout_ms / 1000;
    time.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return time;
}

enum status collect_take(struct collect *collect, uint8_t stream, uint32_t step, int timeout_ms,
                         struct completed_work **out_work) {
    struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
    enum status status = STATUS_OK;
    bool in_time = timeout_ms != 0; /* 0 never sleeps */
    pthread_mutex_lock(&collect->mutex);
    struct collected *collected = find(collect, stream, step);
    while (collected && !collected->completed && collect->failed == STATUS_OK && in_time) {
        if (timeout_ms < 0)
            pthread_cond_wait(&collect->changed, &collect->mutex);
        else
            in_time = pthread_cond_timedwait(&collect->changed, &collect->mutex, &deadline) != ETIMEDOUT;
        collected = find(collect, stream, step);
    }
    if (collect->failed != STATUS_OK) {
        status = fail(collect->failed, "%s", collect->text);
    } else if (!collected) {
        status = fail(STATUS_NOT_FOUND, "step %u: was not offered", step);
    } else if (!collected->completed) {
        status = STATUS_TIMEOUT;
    } else {
        list_remove(&collected->of_collect);
        collected->work.memory = collected;
        *out_work = &collected->work;
    }
    pthread_mutex_unlock(&collect->mutex);
    return status;
}

void completed_work_free(struct completed_work **work) {
    if (*work)
        free_collected((*work)->memory);
    *work = NULL;
}

uint32_t collect_filled(struct collect *collect, uint8_t stream, uint32_t step) {
    pthread_mutex_lock(&collect->mutex);
    const struct collected *collected = find(collect, stream, step);
    uint32_t filled = collected ? collected->work.arrival_count : 0;
    pthread_mutex_unlock(&collect->mutex);
    return filled;
}
