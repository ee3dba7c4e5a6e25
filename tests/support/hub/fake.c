#include "tests/support/hub/fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"
#include "proto/proto.h"

static void on_send(void *context, peer_id peer, const struct message *message) {
    struct fake *fake = context;
    struct buf frame = {0};
    if (proto_encode(message, &frame) != STATUS_OK)
        assert_failed(status_message(), __FILE__, __LINE__);
    if (fake->sent_count == fake->sent_capacity) {
        fake->sent_capacity = fake->sent_capacity ? 2 * fake->sent_capacity : 64;
        fake->sent = realloc(fake->sent, fake->sent_capacity * sizeof fake->sent[0]);
        ASSERT(fake->sent);
    }
    size_t bytes = frame.bytes;
    fake->sent[fake->sent_count++] = (struct fake_sent){.peer = peer, .frame = buf_take(&frame, NULL), .bytes = bytes};
}

static void on_filled(void *context, const struct message_scored *scored) {
    struct fake *fake = context;
    struct digest content[2] = {group_digest(&scored->group), {scored->group.key.step, scored->group.key.slot}};
    struct digest digest = hash128(content, sizeof content);
    fake->history.low += digest.low;
    fake->history.high += digest.high;
    fake->filled++;
}

static void on_completed(void *context, uint8_t stream, uint32_t step) {
    (void)stream;
    (void)step;
    ((struct fake *)context)->completed++;
}

static void on_withdrawn(void *context, uint8_t stream, uint32_t step) {
    (void)stream;
    (void)step;
    ((struct fake *)context)->withdrawn++;
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    struct fake *fake = context;
    fake->alarms++;
    fake->fatal += fatal;
    snprintf(fake->alarm, sizeof fake->alarm, "%s", name);
    snprintf(fake->alarm_text, sizeof fake->alarm_text, "%s", text);
}

struct hub_settings fake_settings(void) {
    return (struct hub_settings){
        .run_id = FAKE_RUN_ID,
        .incarnation = 0x123456789abcdefu,
        .run = "test",
        .config = {1, 2},
        .fingerprint = {.build = text_of("b1"),
                        .backend = text_of("cpu"),
                        .device = text_of(""),
                        .arithmetic = text_of("avx2")},
        .heartbeat_ms = FAKE_HEARTBEAT_MS,
        .lease_ms = FAKE_LEASE_MS,
        .weights_endpoint = "ipc:///w",
        .valid_vocab = FAKE_VOCABULARY,
        .positions_max = 64,
    };
}

void fake_create(struct fake *fake, const struct hub_settings *settings) {
    *fake = (struct fake){0};
    arena_init(&fake->arena, 256u << 20);
    struct hub_events events = {fake, on_send, on_filled, on_completed, on_withdrawn, on_alarm, NULL};
    ASSERT(hub_create(settings, &events, &fake->hub) == STATUS_OK);
}

void fake_forget_sent(struct fake *fake) {
    for (uint32_t i = 0; i < fake->sent_count; i++)
        free(fake->sent[i].frame);
    fake->sent_count = 0;
    arena_reset(&fake->arena);
}

void fake_destroy(struct fake *fake) {
    fake_forget_sent(fake);
    free(fake->sent);
    arena_deinit(&fake->arena);
    hub_destroy(&fake->hub);
}

/* ---- the holder ---- */

struct digest fake_weights(uint32_t version) {
    return hash128(&version, sizeof version);
}

void fake_publish(struct fake *fake, uint32_t version, int64_t now_ms) {
    struct message_manifest manifest = {.version = version,
                                        .weights = fake_weights(version),
                                        .elements = 10,
                                        .payload_bytes = 20,
                                        .chunk_bytes = 16,
                                        .current = 1};
    ASSERT(hub_publish(fake->hub, &manifest, now_ms) == STATUS_OK);
}

enum status fake_offer(struct fake *fake, uint8_t stream, uint32_t step, uint32_t slots, uint32_t priority,
                       uint32_t version, int64_t now_ms) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {FAKE_STOP};
    struct message_lease *templates = calloc(slots, sizeof *templates);
    ASSERT(templates);
    for (uint32_t i = 0; i < slots; i++)
        templates[i] = (struct message_lease){.prompt = prompt,
                                              .prompt_count = 3,
                                              .samples = FAKE_SAMPLES,
                                              .temperature = 1,
                                              .max_new_tokens = FAKE_TOKENS,
                                              .stops = stops,
                                              .stop_count = 1,
                                              .grading = {.question_id = text_of("q17"), .question = text_of("why?")}};
    struct hub_work work = {.stream = stream,
                            .step = step,
                            .priority = priority,
                            .weights = fake_weights(version),
                            .version = version,
                            .slot_count = slots,
                            .slots = templates};
    enum status status = hub_offer(fake->hub, &work, now_ms);
    free(templates);
    return status;
}

/* ---- peers ---- */

struct message fake_hello(uint8_t role, uint64_t incarnation, uint32_t capacity_samples) {
    static char names[16][24]; /* of the last ones */
    char *name = names[incarnation % 16];
    struct message message = {.type = MESSAGE_HELLO};
    snprintf(name, sizeof names[0], "peer%llu", (unsigned long long)incarnation);
    message.hello = (struct message_hello){.protocol = PROTOCOL_VERSION,
                                           .role = role,
                                           .name = text_of(name),
                                           .host = text_of("h1"),
                                           .incarnation = incarnation,
                                           .fingerprint = fake_settings().fingerprint,
                                           .capacity_samples = capacity_samples,
                                           .capacity_bytes = 1u << 20,
                                           .endpoint = text_of(role == ROLE_REWARD ? "ipc:///groups" : "")};
    return message;
}

void fake_send(struct fake *fake, peer_id peer, const struct message *message, int64_t now_ms) {
    hub_message(fake->hub, peer, message, now_ms);
    hub_check(fake->hub);
}

void fake_join(struct fake *fake, uint8_t role, peer_id peer, uint32_t capacity_samples, int64_t now_ms) {
    struct message message = fake_hello(role, peer, capacity_samples);
    fake_send(fake, peer, &message, now_ms);
}

void fake_beat(struct fake *fake, peer_id peer, uint64_t last_lease, const uint64_t *held, uint32_t count,
               uint8_t state, uint64_t tokens, int64_t now_ms) {
    struct lease_progress list[64];
    ASSERT(count <= 64);
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct lease_progress){.lease = held[i], .tokens_done = tokens, .state = state};
    struct message message = {.type = MESSAGE_HEARTBEAT};
    message.heartbeat = (struct message_heartbeat){
        .incarnation = peer, .last_lease = last_lease, .held = list, .held_count = count, .state = text_of("at work")};
    fake_send(fake, peer, &message, now_ms);
}

bool fake_take(struct fake *fake, peer_id peer, enum message_type type, struct message *out_message) {
    for (uint32_t i = 0; i < fake->sent_count; i++) {
        struct fake_sent *sent = &fake->sent[i];
        struct message message;
        if (sent->taken || sent->peer != peer)
            continue;
        ASSERT(proto_decode(sent->frame, sent->bytes, &fake->arena, &message) == STATUS_OK);
        if (message.type != type)
            continue;
        sent->taken = true;
        *out_message = message;
        return true;
    }
    return false;
}

uint32_t fake_count(const struct fake *fake, peer_id peer, enum message_type type) {
    struct arena arena;
    uint32_t count = 0;
    arena_init(&arena, 1u << 24);
    for (uint32_t i = 0; i < fake->sent_count; i++) {
        struct message message;
        if (fake->sent[i].taken || fake->sent[i].peer != peer)
            continue;
        ASSERT(proto_decode(fake->sent[i].frame, fake->sent[i].bytes, &arena, &message) == STATUS_OK);
        count += message.type == type;
        arena_reset(&arena);
    }
    arena_deinit(&arena);
    return count;
}

/* ---- groups ---- */

struct message_group fake_group(const struct message_lease *lease, uint64_t actor, struct arena *arena) {
    struct answer_sample *samples = arena_alloc(arena, lease->samples * sizeof *samples);
    ASSERT(samples);
    for (uint32_t i = 0; i < lease->samples; i++) {
        struct rng_key key = {.seed = lease->weights.low,
                              .step = lease->key.step,
                              .slot = lease->key.slot,
                              .sample = (uint16_t)i,
                              .stream = RNG_TEST};
        uint32_t count = 1 + rng_below(&key, 0, lease->max_new_tokens);
        int32_t *ids = arena_alloc(arena, count * sizeof *ids);
        float *logprobs = arena_alloc(arena, count * sizeof *logprobs);
        ASSERT(ids && logprobs);
        for (uint32_t t = 0; t < count; t++) {
            ids[t] = 10 + (int32_t)rng_below(&key, 1 + t, 80);
            logprobs[t] = -rng_uniform(&key, 100 + t);
        }
        if (count < lease->max_new_tokens)
            ids[count - 1] = FAKE_STOP;
        samples[i] = (struct answer_sample){.ids = ids,
                                            .logprobs = logprobs,
                                            .count = count,
                                            .finish = count < lease->max_new_tokens ? FINISH_STOP : FINISH_LENGTH,
                                            .text = text_of("text")};
    }
    return (struct message_group){.lease = lease->lease,
                                  .key = lease->key,
                                  .attempt = lease->attempt,
                                  .weights = lease->weights,
                                  .config = lease->config,
                                  .actor = actor,
                                  .actor_name = text_of("peer"),
                                  .same_class = 1,
                                  .samples = samples,
                                  .sample_count = lease->samples,
                                  .grading = lease->grading};
}

struct message fake_scored(const struct message_group *group, uint64_t worker, struct arena *arena) {
    struct sample_score *scores = arena_alloc(arena, group->sample_count * sizeof *scores);
    ASSERT(scores);
    for (uint32_t i = 0; i < group->sample_count; i++)
        scores[i] = (struct sample_score){.verdict = VERDICT_WRONG};
    struct message message = {.type = MESSAGE_SCORED};
    message.scored = (struct message_scored){.group = *group,
                                             .scores = scores,
                                             .score_count = group->sample_count,
                                             .worker = worker,
                                             .worker_name = text_of("worker")};
    return message;
}

int fake_deliver(struct fake *fake, peer_id worker, const struct message_lease *lease, uint64_t actor, int64_t now_ms,
                 const char **out_reason) {
    struct message_group group = fake_group(lease, actor, &fake->arena);
    struct message scored = fake_scored(&group, worker, &fake->arena), answer;
    fake_send(fake, worker, &scored, now_ms);
    if (!fake_take(fake, worker, MESSAGE_ANSWER, &answer))
        return -1;
    if (out_reason)
        *out_reason = answer.answer.reason.data;
    ASSERT(work_key_equal(&answer.answer.key, &lease->key) && answer.answer.lease == lease->lease);
    return answer.answer.outcome;
}
