/* What people see of the hub, and the check of its invariants. */
#include "common/hub/internal.h"

#include <string.h>

#include "common/base/json.h"
#include "proto/proto.h"

/* Peers beyond this much text are counted, not shown. */
#define PEERS_JSON_BYTES (STATUS_BYTES_MAX - (256u << 10))

/* ---- queries ---- */

const struct hub_counts *hub_counted(const struct hub *hub) {
    return &hub->counts;
}

void hub_each_peer(const struct hub *hub, void (*each)(void *context, const struct hub_peer_view *peer),
                   void *context) {
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        const struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        struct hub_peer_view view = {.role = peer->role,
                                     .name = peer->name,
                                     .host = peer->host,
                                     .state = peer->state,
                                     .counters = peer->counters,
                                     .counter_count = peer->counter_count};
        each(context, &view);
    }
}

uint32_t hub_actor_count(const struct hub *hub) {
    return hub->actor_count;
}

uint32_t hub_worker_count(const struct hub *hub) {
    return hub->worker_count;
}

uint32_t hub_filled(const struct hub *hub, uint8_t stream, uint32_t step) {
    const struct work *work = hub_find_work(hub, stream, step);
    return work ? work->done : 0;
}

bool hub_idle(const struct hub *hub) {
    return hub->work_count == 0 && hub->table.active == 0;
}

bool hub_drained(const struct hub *hub) {
    return hub->said_bye;
}

/* ---- the line ---- */

static const char *stream_name(uint8_t stream) {
    static const char *const names[] = {"?", "step", "evaluation of version"};
    return stream <= WORK_EVAL ? names[stream] : names[0];
}

static const char *plural(uint32_t count) {
    return count == 1 ? "" : "s";
}

static bool all_too_small(const struct hub *hub) {
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next) {
        const struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        if (peer->role == ROLE_ACTOR && !peer->told_too_small)
            return false;
    }
    return true;
}

void hub_status_line(const struct hub *hub, int64_t now_ms, struct buf *out) {
    (void)now_ms;
    if (hub->draining) {
        buf_printf(out, "draining: %u leases out", hub->table.active);
        return;
    }
    if (list_empty(&hub->works)) {
        buf_printf(out, "no open work, %u actor%s, %u reward worker%s", hub->actor_count, plural(hub->actor_count),
                   hub->worker_count, plural(hub->worker_count));
        return;
    }
    const struct work *work = LIST_ELEMENT(hub->works.next, struct work, of_hub);
    if (work->stream != WORK_GENERATE) /* a driver's numbers say nothing to people */
        buf_printf(out, "%s %u: ", stream_name(work->stream), work->step);
    buf_printf(out, "%u of %u groups, ", work->done, work->slot_count);
    if (hub->actor_count == 0)
        buf_puts(out, "waiting for an actor");
    else if (hub->worker_count == 0)
        buf_puts(out, "waiting for a reward worker");
    else if (all_too_small(hub))
        buf_puts(out, "no actor has room for a group: actor.outbox_bytes");
    else
        buf_printf(out, "%u actor%s, %u reward worker%s", hub->actor_count, plural(hub->actor_count), hub->worker_count,
                   plural(hub->worker_count));
}

/* ---- the whole ---- */

static void put_text(struct buf *out, const char *name, const char *text) {
    buf_printf(out, "\"%s\":", name);
    json_put_string(out, text, strlen(text));
    buf_puts(out, ",");
}

static void put_work(const struct work *work, int64_t now_ms, struct buf *out) {
    uint32_t leased = 0, lost = 0;
    for (uint32_t i = 0; i < work->slot_count; i++) {
        leased += work->slots[i].state == SLOT_LEASED;
        lost += work->slots[i].lost;
    }
    buf_printf(
        out,
        "{\"stream\":%u,\"step\":%u,\"version\":%u,\"slots\":%u,\"open\":%u,\"leased\":%u,\"done\":%u,\"lost\":%u,"
        "\"age_ms\":%lld}",
        work->stream, work->step, work->version, work->slot_count, work->open_count, leased, work->done, lost,
        (long long)(now_ms - work->offered_ms));
}

static void put_peer(const struct peer *peer, int64_t now_ms, struct buf *out) {
    buf_printf(out, "{\"role\":\"%s\",", peer->role == ROLE_ACTOR ? "actor" : "reward");
    put_text(out, "name", peer->name);
    put_text(out, "host", peer->host);
    put_text(out, "state", peer->state);
    if (peer->role == ROLE_REWARD)
        put_text(out, "endpoint", peer->endpoint);
    else
        buf_printf(out,
                   "\"same_class\":%s,\"distrusted\":%s,\"leases\":%u,\"samples\":%u,\"samples_max\":%u,\"bytes\":%llu,"
                   "\"bytes_max\":%llu,\"lost\":%llu,",
                   peer->same_class ? "true" : "false", peer->distrusted ? "true" : "false", peer->lease_count,
                   peer->used_samples, peer->capacity_samples, (unsigned long long)peer->used_bytes,
                   (unsigned long long)peer->capacity_bytes, (unsigned long long)peer->lost);
    buf_printf(out, "\"pid\":%u,\"connected\":%s,\"silent_ms\":%lld,\"age_ms\":%lld,\"accepted\":%llu,\"counters\":{",
               peer->pid, peer->connection ? "true" : "false", (long long)(now_ms - peer->seen_ms),
               (long long)(now_ms - peer->joined_ms), (unsigned long long)peer->accepted);
    for (uint32_t i = 0; i < peer->counter_count; i++) {
        buf_puts(out, i ? "," : "");
        json_put_string(out, peer->counters[i].name, strlen(peer->counters[i].name));
        buf_puts(out, ":");
        json_put_double(out, peer->counters[i].value);
    }
    buf_puts(out, "}}");
}

static void put_peers(const struct hub *hub, int64_t now_ms, struct buf *out) {
    uint32_t shown = 0;
    buf_puts(out, "\"peers\":[");
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen && out->bytes < PEERS_JSON_BYTES;
         link = link->next) {
        buf_puts(out, shown++ ? "," : "");
        put_peer(LIST_ELEMENT(link, struct peer, by_seen), now_ms, out);
    }
    buf_printf(out, "],\"peers_left_out\":%u,", hub->peer_count - shown);
}

void hub_counts_json(const struct hub_counts *counts, struct buf *out) {
#define COUNT(name)                                                                                                    \
    { #name, &counts->name }
    const struct {
        const char *name;
        const uint64_t *value;
    } rows[] = {
        COUNT(granted),    COUNT(speculative), COUNT(accepted),   COUNT(duplicates), COUNT(mismatches),
        COUNT(not_wanted), COUNT(invalid),     COUNT(expired),    COUNT(revived),    COUNT(lost),
        COUNT(dropped),    COUNT(given_back),  COUNT(revoked),    COUNT(skipped),    COUNT(malformed),
        COUNT(refused),    COUNT(hellos),      COUNT(reconnects), COUNT(gone),
        COUNT(canary_mismatches),
    };
#undef COUNT
    buf_puts(out, "{");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        buf_printf(out, "%s\"%s\":%llu", i ? "," : "", rows[i].name, (unsigned long long)*rows[i].value);
    buf_puts(out, "}");
}

static void put_doing(const struct hub *hub, struct buf *out) {
    struct buf doing = {0};
    if (hub->events.describe)
        hub->events.describe(hub->events.context, &doing);
    if (buf_ok(&doing) && doing.data)
        put_text(out, "doing", doing.data);
    buf_deinit(&doing);
}

void hub_status_json(const struct hub *hub, int64_t now_ms, struct buf *out) {
    struct buf line = {0};
    hub_status_line(hub, now_ms, &line);
    buf_puts(out, "{");
    put_text(out, "run", hub->run);
    if (buf_ok(&line) && line.data)
        put_text(out, "state", line.data);
    buf_deinit(&line);
    put_doing(hub, out);
    buf_printf(out, "\"run_id\":\"%016llx\",\"protocol\":%d,\"heartbeat_ms\":%u,\"lease_ms\":%u,\"mean_lease_ms\":%.0f,",
               (unsigned long long)hub->settings.run_id, PROTOCOL_VERSION, hub->settings.heartbeat_ms,
               hub->settings.lease_ms, hub->mean_ms);
    buf_printf(out, "\"actors\":%u,\"reward_workers\":%u,\"leases\":%u,", hub->actor_count, hub->worker_count,
               hub->table.active);
    buf_puts(out, "\"versions\":[");
    for (uint32_t i = 0; i < hub->version_count; i++) {
        char hex[DIGEST_HEX_BYTES];
        digest_format(hub->versions[i].manifest.weights, hex);
        buf_printf(out, "%s{\"version\":%u,\"weights\":\"%s\"}", i ? "," : "", hub->versions[i].manifest.version, hex);
    }
    buf_puts(out, "],\"work\":[");
    for (struct link *link = hub->works.next; link != &hub->works; link = link->next) {
        buf_puts(out, link == hub->works.next ? "" : ",");
        put_work(LIST_ELEMENT(link, struct work, of_hub), now_ms, out);
    }
    buf_puts(out, "],");
    put_peers(hub, now_ms, out);
    buf_puts(out, "\"counts\":");
    hub_counts_json(&hub->counts, out);
    buf_puts(out, "}");
}

/* ---- invariants ---- */

static void check_peer(const struct hub *hub, const struct peer *peer) {
    uint32_t count = 0, samples = 0;
    uint64_t bytes = 0;
    for (struct link *link = peer->leases.next; link != &peer->leases; link = link->next, count++) {
        const struct lease *lease = LIST_ELEMENT(link, struct lease, of_peer);
        ASSERT(lease->peer == peer && lease->status != LEASE_STATUS_FREE);
        bytes += lease->bytes;
        samples += lease->state == LEASE_DONE ? 0 : lease->samples;
    }
    ASSERT(count == peer->lease_count && bytes == peer->used_bytes && samples == peer->used_samples);
    ASSERT(peer->used_bytes <= peer->capacity_bytes || peer->lease_count > 0);
    ASSERT(map_get(&hub->by_incarnation, peer->incarnation) == peer);
    ASSERT(peer->connection == 0 || map_get(&hub->by_connection, peer->connection) == peer);
    ASSERT(!list_linked(&peer->hungry) || (peer->role == ROLE_ACTOR && !peer->distrusted && peer->connection != 0));
}

void hub_check(const struct hub *hub) {
    uint32_t works = 0, peers = 0, actors = 0, workers = 0, leases = 0, priority = 0;
    lease_table_check(&hub->table);
    for (struct link *link = hub->works.next; link != &hub->works; link = link->next, works++) {
        const struct work *work = LIST_ELEMENT(link, struct work, of_hub);
        work_check(work);
        ASSERT(work->done < work->slot_count); /* I1: a finished step is handed over at once and only once */
        ASSERT(work->priority >= priority);
        priority = work->priority;
    }
    int64_t seen_ms = INT64_MIN;
    for (struct link *link = hub->by_seen.next; link != &hub->by_seen; link = link->next, peers++) {
        const struct peer *peer = LIST_ELEMENT(link, struct peer, by_seen);
        check_peer(hub, peer);
        ASSERT(peer->seen_ms >= seen_ms);
        seen_ms = peer->seen_ms;
        leases += peer->lease_count;
        actors += peer->role == ROLE_ACTOR;
        workers += peer->role == ROLE_REWARD;
    }
    ASSERT(works == hub->work_count && works <= WORKS_MAX);                                       /* I4 */
    ASSERT(peers == hub->peer_count && peers <= PEERS_MAX && peers == hub->by_incarnation.count); /* I4 */
    ASSERT(actors == hub->actor_count && workers == hub->worker_count && leases == hub->table.count);
    ASSERT(hub->past.slot_count <= PAST_SLOTS_MAX && hub->past.work_count <= PAST_WORKS_MAX);
}
