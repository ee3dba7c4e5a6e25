/* What other threads ask of the hub's. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/hub/server_internal.h"

/* ---- calls of other threads ---- */

void hub_server_answer(struct hub_server *server) {
    void *item;
    while (queue_pop(server->calls, &item, 0) == STATUS_OK) {
        struct call *call = item;
        enum status status = call->run(server, call->argument);
        pthread_mutex_lock(&server->mutex);
        call->status = status;
        snprintf(call->message, sizeof call->message, "%s", status == STATUS_OK ? "" : status_message());
        call->done = true;
        pthread_cond_broadcast(&server->answered);
        pthread_mutex_unlock(&server->mutex);
    }
}

enum status hub_server_ask(struct hub_server *server, enum status (*run)(struct hub_server *server, void *argument),
                           void *argument) {
    struct call call = {.run = run, .argument = argument};
    if (queue_push(server->calls, &call, -1) != STATUS_OK)
        return fail(STATUS_CLOSED, "the hub has ended");
    pthread_mutex_lock(&server->mutex);
    while (!call.done)
        pthread_cond_wait(&server->answered, &server->mutex);
    pthread_mutex_unlock(&server->mutex);
    return call.status == STATUS_OK ? STATUS_OK : fail(call.status, "%s", call.message);
}

/* ---- work ---- */

static enum status run_offer(struct hub_server *server, void *argument) {
    const struct hub_work *work = argument;
    TRY(hub_offer(server->hub, work, clock_boot_ms()));
    enum status status = collect_begin(server->collect, work->stream, work->step, work->slot_count);
    if (status != STATUS_OK) /* before the first group can come: that is the next message */
        hub_withdraw(server->hub, work->stream, work->step);
    return status;
}

enum status hub_server_offer(struct hub_server *server, const struct hub_work *work) {
    struct hub_work copy = *work;
    return hub_server_ask(server, run_offer, &copy);
}

static enum status run_withdraw(struct hub_server *server, void *argument) {
    const struct work_key *key = argument;
    hub_withdraw(server->hub, key->stream, key->step);
    collect_forget(server->collect, key->stream, key->step); /* completed and not taken */
    return STATUS_OK;
}

void hub_server_withdraw(struct hub_server *server, uint8_t stream, uint32_t step) {
    struct work_key key = {.stream = stream, .step = step};
    hub_server_ask(server, run_withdraw, &key);
}

enum status hub_server_take(struct hub_server *server, uint8_t stream, uint32_t step, int timeout_ms,
                            struct completed_work **out_work) {
    return collect_take(server->collect, stream, step, timeout_ms, out_work);
}

uint32_t hub_server_filled(struct hub_server *server, uint8_t stream, uint32_t step) {
    return collect_filled(server->collect, stream, step);
}

void hub_server_interrupt(struct hub_server *server) {
    collect_fail(server->collect, STATUS_INTERRUPTED, "a stop was asked for");
}

/* ---- versions ---- */

static enum status run_publish(struct hub_server *server, void *argument) {
    return versions_publish(&server->versions, argument, clock_boot_ms());
}

enum status hub_server_publish(struct hub_server *server, const struct published *published) {
    struct published copy = *published;
    enum status status = hub_server_ask(server, run_publish, &copy);
    free(copy.take_delta);
    return status;
}

struct version_range {
    uint32_t first, end;
};

static enum status run_retire(struct hub_server *server, void *argument) {
    const struct version_range *range = argument;
    return versions_retire(&server->versions, range->first, range->end, clock_boot_ms());
}

enum status hub_server_retire_below(struct hub_server *server, uint32_t version) {
    return hub_server_ask(server, run_retire, &(struct version_range){0, version});
}

enum status hub_server_retire(struct hub_server *server, uint32_t version) {
    return hub_server_ask(server, run_retire, &(struct version_range){version, version + 1});
}

/* ---- figures ---- */

struct counters {
    struct hub_counts counts;
    struct buf *json;
};

static enum status run_counters(struct hub_server *server, void *argument) {
    struct counters *counters = argument;
    struct buf *out = counters->json;
    buf_printf(out,
               "{\"actors\":%u,\"reward_workers\":%u,\"bytes_in\":%llu,\"bytes_out\":%llu,\"telemetry_dropped\":%llu,"
               "\"hub\":",
               hub_actor_count(server->hub), hub_worker_count(server->hub), (unsigned long long)server->bytes_in,
               (unsigned long long)server->bytes_out,
               (unsigned long long)(server->telemetry ? telemetry_dropped(server->telemetry) : 0));
    counters->counts = *hub_counted(server->hub);
    hub_counts_json(&counters->counts, out);
    buf_puts(out, "}");
    return buf_ok(out) ? STATUS_OK : fail(STATUS_NO_MEMORY, "counters: no memory");
}

enum status hub_server_counters(struct hub_server *server, struct hub_counts *out_counts, struct buf *out_json) {
    struct counters counters = {.json = out_json};
    TRY(hub_server_ask(server, run_counters, &counters));
    *out_counts = counters.counts;
    return STATUS_OK;
}

static enum status run_status_line(struct hub_server *server, void *argument) {
    hub_status_line(server->hub, clock_boot_ms(), argument);
    return STATUS_OK;
}

void hub_server_status_line(struct hub_server *server, struct buf *out) {
    hub_server_ask(server, run_status_line, out);
}

void hub_server_telemetry(struct hub_server *server, const char *const *names, const double *values, uint32_t count) {
    if (server->telemetry)
        telemetry_sample(server->telemetry, names, values, count);
}
