#include "common/telemetry/telemetry.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/telemetry/redis.h"
#include "common/telemetry/ring.h"

#define IDLE_MS 100        /* the thread looks into the ring this often: pushing makes no system call */
#define RETRY_FIRST_MS 100 /* pause after the first failure; doubled up to RETRY_MOST_MS */
#define RETRY_MOST_MS 5000
#define STOP_S 1 /* telemetry_stop waits this long; a name look-up may hold the thread for longer */
#define LOG_MS 60000

struct telemetry {
    struct redis_target target;
    char run[TELEMETRY_TEXT_BYTES];
    struct ring *ring;
    atomic_uint_fast64_t dropped, written;
    int stop_fd;
    atomic_int owners; /* the thread and the holder: the last one frees */
    pthread_t thread;
};

/* ---- the caller's side: never waits ---- */

/* Copies text cut to room - 1 bytes; what is not printable ASCII or UTF-8 stays out of Redis and of terminals. */
static void copy_text(char *out_text, size_t room, const char *text, size_t bytes) {
    size_t used = 0;
    for (size_t i = 0; i < bytes && text[i] && used < room - 1; i++)
        out_text[used++] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    out_text[used] = '\0';
}

static void put_pair(struct record *record, const char *name, size_t name_bytes, double value) {
    if (record->pair_count == TELEMETRY_PAIRS_MAX || !isfinite(value))
        return;
    copy_text(record->pairs[record->pair_count].name, TELEMETRY_NAME_BYTES, name, name_bytes);
    record->pairs[record->pair_count].value = value;
    record->pair_count++;
}

static void push(struct telemetry *telemetry, struct record *record) {
    record->at_ms = clock_unix_ms();
    uint32_t lost = ring_push(telemetry->ring, record);
    if (lost > 0)
        atomic_fetch_add_explicit(&telemetry->dropped, lost, memory_order_relaxed);
}

void telemetry_process(struct telemetry *telemetry, const struct telemetry_process *process,
                       const struct telemetry_pair *pairs, uint32_t count) {
    if (!telemetry)
        return;
    struct record record;
    record.is_sample = false;
    record.pair_count = 0;
    copy_text(record.name, sizeof record.name, process->name, SIZE_MAX);
    copy_text(record.role, sizeof record.role, process->role, SIZE_MAX);
    copy_text(record.host, sizeof record.host, process->host, SIZE_MAX);
    copy_text(record.state, sizeof record.state, process->state, SIZE_MAX);
    for (uint32_t i = 0; i < count; i++)
        put_pair(&record, pairs[i].name, pairs[i].name_bytes, pairs[i].value);
    push(telemetry, &record);
}

void telemetry_sample(struct telemetry *telemetry, const char *const *names, const double *values, uint32_t count) {
    if (!telemetry)
        return;
    struct record record;
    record.is_sample = true;
    record.pair_count = 0;
    record.name[0] = record.role[0] = record.host[0] = record.state[0] = '\0';
    for (uint32_t i = 0; i < count; i++)
        put_pair(&record, names[i], SIZE_MAX, values[i]);
    push(telemetry, &record);
}

uint64_t telemetry_dropped(const struct telemetry *telemetry) {
    return telemetry ? atomic_load_explicit(&telemetry->dropped, memory_order_relaxed) : 0;
}

uint64_t telemetry_written(const struct telemetry *telemetry) {
    return telemetry ? atomic_load_explicit(&telemetry->written, memory_order_relaxed) : 0;
}

/* ---- the thread ---- */

/* false when a stop was asked for. */
static bool pause_for(const struct telemetry *telemetry, int ms) {
    struct pollfd entry = {.fd = telemetry->stop_fd, .events = POLLIN};
    return poll(&entry, 1, ms) == 0;
}

static void fill_batch(struct telemetry *telemetry, struct redis_batch *batch) {
    batch->dropped = telemetry_dropped(telemetry);
    while (batch->count < REDIS_BATCH_RECORDS && ring_try_pop(telemetry->ring, &batch->records[batch->count]))
        batch->count++;
}

static bool write_batch(struct telemetry *telemetry, struct redis_writer *writer, struct redis_batch *batch) {
    uint32_t refused = 0, count = batch->count;
    if (redis_write(writer, telemetry->run, batch, &refused) != STATUS_OK)
        return false;
    if (refused > 0)
        LOG_EVERY(LOG_MS, LOG_WARNING, "telemetry_refused", "records=%u reason=\"%s\"", refused, writer->refusal);
    atomic_fetch_add_explicit(&telemetry->dropped, refused, memory_order_relaxed);
    atomic_fetch_add_explicit(&telemetry->written, count - refused, memory_order_relaxed);
    batch->count = 0;
    return true;
}

static void release(struct telemetry *telemetry) {
    if (atomic_fetch_sub(&telemetry->owners, 1) > 1)
        return;
    ring_destroy(&telemetry->ring);
    close(telemetry->stop_fd);
    free(telemetry);
}

static void run_writer(struct telemetry *telemetry, struct redis_batch *batch) {
    struct redis_writer writer = {0};
    int retry_ms = 0;
    bool gone = false, going_on = true;
    while (going_on) {
        going_on = pause_for(telemetry, retry_ms > 0 ? retry_ms : IDLE_MS);
        fill_batch(telemetry, batch);
        bool more = batch->count > 0;
        while (more && redis_connect(&writer, &telemetry->target) == STATUS_OK &&
               write_batch(telemetry, &writer, batch)) {
            if (gone)
                log_event(LOG_INFO, "telemetry_back", "redis=%s", telemetry->target.text);
            gone = false;
            retry_ms = 0;
            fill_batch(telemetry, batch);
            more = batch->count > 0;
        }
        if (!more)
            continue;
        if (!gone)
            LOG_EVERY(LOG_MS, LOG_WARNING, "telemetry_gone", "redis=%s reason=\"%s\"", telemetry->target.text,
                      status_message());
        gone = true;
        redis_disconnect(&writer);
        retry_ms = retry_ms == 0 ? RETRY_FIRST_MS : 2 * retry_ms < RETRY_MOST_MS ? 2 * retry_ms : RETRY_MOST_MS;
    }
    redis_disconnect(&writer);
}

static void *thread_main(void *context) {
    struct telemetry *telemetry = context;
    struct redis_batch *batch = calloc(1, sizeof *batch);
    if (batch)
        run_writer(telemetry, batch);
    free(batch);
    release(telemetry);
    return NULL;
}

/* ---- start and stop ---- */

static enum status start_thread(struct telemetry *telemetry) {
    sigset_t all, before;
    sigfillset(&all); /* signals are other threads' business; SIGPIPE becomes EPIPE here */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&telemetry->thread, NULL, thread_main, telemetry);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return error == 0 ? STATUS_OK : fail_errno("telemetry: cannot start the thread");
}

enum status telemetry_start(const char *redis, const char *run, struct telemetry **out_telemetry) {
    enum status status;
    if (redis[0] == '\0') {
        *out_telemetry = NULL;
        return STATUS_OK;
    }
    struct telemetry *telemetry = calloc(1, sizeof *telemetry);
    if (!telemetry)
        return fail(STATUS_NO_MEMORY, "telemetry: no memory");
    telemetry->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&telemetry->owners, 2);
    copy_text(telemetry->run, sizeof telemetry->run, run, SIZE_MAX);
    if (telemetry->stop_fd < 0) {
        status = fail_errno("telemetry: eventfd");
        goto failed;
    }
    TRY_GOTO(redis_target_parse(redis, &telemetry->target), failed);
    TRY_GOTO(ring_create(TELEMETRY_RING_RECORDS, &telemetry->ring), failed);
    TRY_GOTO(start_thread(telemetry), failed);
    *out_telemetry = telemetry;
    return STATUS_OK;
failed:
    ring_destroy(&telemetry->ring);
    if (telemetry->stop_fd >= 0)
        close(telemetry->stop_fd);
    free(telemetry);
    return status;
}

void telemetry_stop(struct telemetry **telemetry) {
    if (!*telemetry)
        return;
    eventfd_write((*telemetry)->stop_fd, 1);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += STOP_S;
    if (pthread_timedjoin_np((*telemetry)->thread, NULL, &deadline) != 0)
        pthread_detach((*telemetry)->thread); /* it frees what is left when it comes back */
    release(*telemetry);
    *telemetry = NULL;
}
