/* Any sequence of frames from any peers, with time passing: the hub's invariants hold after each. Input: records of one byte of peer
 * and time (low 3 bits the peer, the rest how much time passes), two bytes of length, and the frame. */
#include <stdint.h>
#include <string.h>

#include "common/hub/hub.h"
#include "proto/proto.h"

static void on_send(void *context, peer_id peer, const struct message *message) {
    (void)peer;
    struct buf *frame = context;
    buf_reset(frame);
    ASSERT(proto_encode(message, frame) == STATUS_OK); /* what the hub says can be said, whatever it was told */
}

static void on_filled(void *context, const struct message_scored *scored) {
    (void)context;
    (void)scored;
}

static void on_over(void *context, uint8_t stream, uint32_t step) {
    (void)context;
    (void)stream;
    (void)step;
}

static void on_alarm(void *context, bool fatal, const char *name, const char *text) {
    (void)context;
    (void)fatal;
    (void)name;
    (void)text;
}

static struct hub *open_hub(struct buf *frame) {
    static int32_t prompt[] = {1}, stops[] = {2};
    struct hub_settings settings = {.run_id = 1,
                                    .incarnation = 1,
                                    .run = "r",
                                    .fingerprint = {text_of(""), text_of(""), text_of(""), text_of("")},
                                    .skip_stuck = true,
                                    .heartbeat_ms = 100,
                                    .lease_ms = 1000,
                                    .weights_endpoint = "",
                                    .valid_vocab = 100};
    struct hub_events events = {frame, on_send, on_filled, on_over, on_over, on_alarm, NULL};
    struct message_lease slots[3];
    for (int i = 0; i < 3; i++)
        slots[i] = (struct message_lease){.prompt = prompt,
                                          .prompt_count = 1,
                                          .samples = 1,
                                          .temperature = 1,
                                          .max_new_tokens = 2,
                                          .stops = stops,
                                          .stop_count = 1};
    struct hub_work work = {.stream = WORK_TRAIN, .slot_count = 3, .slots = slots};
    struct message_manifest manifest = {.chunk_bytes = 1, .current = 1};
    struct hub *hub;
    ASSERT(hub_create(&settings, &events, &hub) == STATUS_OK);
    ASSERT(hub_publish(hub, &manifest, 0) == STATUS_OK && hub_offer(hub, &work, 0) == STATUS_OK);
    return hub;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct buf frame = {0};
    struct hub *hub = open_hub(&frame);
    struct arena arena;
    int64_t now_ms = 0;
    arena_init(&arena, proto_arena_bytes(65536));
    while (bytes >= 3) {
        peer_id peer = 1 + (data[0] & 7);
        size_t length = data[1] | (size_t)data[2] << 8;
        now_ms += (data[0] >> 3) * 30;
        length = length < bytes - 3 ? length : bytes - 3;
        struct message message;
        arena_reset(&arena);
        hub_tick(hub, now_ms);
        if (length == 0)
            hub_disconnected(hub, peer, now_ms);
        else if (proto_decode(data + 3, length, &arena, &message) == STATUS_OK)
            hub_message(hub, peer, &message, now_ms);
        else
            hub_malformed(hub, peer, status_message());
        hub_check(hub);
        data += 3 + length;
        bytes -= 3 + length;
    }
    arena_deinit(&arena);
    hub_destroy(&hub);
    buf_deinit(&frame);
    return 0;
}
