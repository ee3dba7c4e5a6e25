#include "common/compute/cpu/team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 20 to 50 us of polling before a thread sleeps. */
#define SPIN_COUNT 1500
#define CHUNKS_MAX UINT32_MAX

/* ticket = job number (high half) and chunks not yet taken (low half). Taking a chunk is one compare-and-swap on it: it
 * succeeds only while that job runs, and the job cannot end before the chunk is done, so whoever holds a chunk may read
 * the job's fields, and a thread that wakes late finds nothing to take. */
struct team {
    _Atomic uint64_t ticket;
    _Atomic uint32_t job;    /* futex word: workers sleep on it */
    _Atomic uint32_t asleep; /* workers in or on their way to the futex */
    _Atomic uint32_t done;   /* futex word: chunks finished of this job */
    _Atomic uint32_t caller_asleep;
    _Atomic int stop;
    team_task task;
    void *context;
    int64_t count, grain;
    uint32_t chunks;
    int threads;
    struct worker {
        struct team *team;
        pthread_t id;
        int index;
    } workers[];
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void take_chunks(struct team *team, int thread) {
    uint64_t ticket = atomic_load(&team->ticket);
    while ((uint32_t)ticket != 0) {
        if (!atomic_compare_exchange_weak(&team->ticket, &ticket, ticket - 1))
            continue;
        uint32_t chunks = team->chunks;
        int64_t begin = (int64_t)(chunks - (uint32_t)ticket) * team->grain;
        int64_t end = begin + team->grain < team->count ? begin + team->grain : team->count;
        team->task(team->context, begin, end, thread);
        if (atomic_fetch_add(&team->done, 1) + 1 == chunks && atomic_load(&team->caller_asleep))
            futex_wake_all(&team->done);
        ticket = atomic_load(&team->ticket);
    }
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct team *team = worker->team;
    uint32_t seen = 0;
    while (!atomic_load(&team->stop)) {
        for (int i = 0; i < SPIN_COUNT && atomic_load_explicit(&team->job, memory_order_relaxed) == seen; i++)
            relax();
        if (atomic_load(&team->job) == seen) {
            atomic_fetch_add(&team->asleep, 1);
            futex_wait(&team->job, seen);
            atomic_fetch_sub(&team->asleep, 1);
            continue;
        }
        seen = atomic_load(&team->job);
        take_chunks(team, worker->index);
    }
    return NULL;
}

enum status team_create(int threads, struct team **out_team) {
    ASSERT(threads >= 1 && threads <= TEAM_THREADS_MAX);
    struct team *team = calloc(1, sizeof *team + (size_t)threads * sizeof team->workers[0]);
    if (team == NULL)
        return fail(STATUS_NO_MEMORY, "team of %d threads: out of memory", threads);
    team->threads = 1;
    for (int i = 1; i < threads; i++) {
        struct worker *worker = &team->workers[i];
        *worker = (struct worker){.team = team, .index = i};
        int error = pthread_create(&worker->id, NULL, worker_main, worker);
        if (error != 0) {
            team_destroy(&team);
            return fail(STATUS_NO_MEMORY, "team of %d threads: thread %d cannot be started (error %d)", threads, i,
                        error);
        }
        team->threads++;
    }
    *out_team = team;
    return STATUS_OK;
}

void team_destroy(struct team **team) {
    struct team *gone = *team;
    if (gone == NULL)
        return;
    atomic_store(&gone->stop, 1);
    atomic_fetch_add(&gone->job, 1);
    futex_wake_all(&gone->job);
    for (int i = 1; i < gone->threads; i++)
        pthread_join(gone->workers[i].id, NULL);
    free(gone);
    *team = NULL;
}

void team_for(struct team *team, int64_t count, int64_t grain, team_task task, void *context) {
    if (count <= 0)
        return;
    ASSERT(grain >= 1 && (count - 1) / grain < CHUNKS_MAX);
    if (team->threads == 1 || count <= grain) {
        task(context, 0, count, 0);
        return;
    }
    team->task = task;
    team->context = context;
    team->count = count;
    team->grain = grain;
    team->chunks = (uint32_t)((count - 1) / grain + 1);
    atomic_store(&team->done, 0);
    uint32_t job = atomic_load(&team->job) + 1;
    atomic_store(&team->ticket, (uint64_t)job << 32 | team->chunks);
    atomic_store(&team->job, job);
    if (atomic_load(&team->asleep) > 0)
        futex_wake_all(&team->job);
    take_chunks(team, 0);
    for (int i = 0; i < SPIN_COUNT && atomic_load(&team->done) != team->chunks; i++)
        relax();
    uint32_t done;
    while ((done = atomic_load(&team->done)) != team->chunks) {
        atomic_store(&team->caller_asleep, 1);
        if ((done = atomic_load(&team->done)) != team->chunks)
            futex_wait(&team->done, done);
        atomic_store(&team->caller_asleep, 0);
    }
}

int team_threads(const struct team *team) {
    return team->threads;
}
