#include "tests/support/actor/whole.h"

#include "proto/proto.h"

const struct model_config whole_shape = {.layers = 1,
                                         .hidden = 64,
                                         .heads = 1,
                                         .kv_heads = 1,
                                         .head_dim = 64,
                                         .ffn = 64,
                                         .vocab = WHOLE_VOCAB,
                                         .max_positions = WHOLE_POSITIONS,
                                         .rope_theta = 10000,
                                         .rms_eps = 1e-6f,
                                         .tied = true,
                                         .bos = -1,
                                         .eos = -1};

struct message whole_welcome(struct store *store, uint64_t hub, uint64_t run) {
    struct message message = {.type = MESSAGE_WELCOME};
    message.welcome = (struct message_welcome){.protocol = PROTOCOL_VERSION,
                                               .run = text_of("run"),
                                               .run_id = run,
                                               .config = {5, 6},
                                               .incarnation = hub,
                                               .heartbeat_ms = 1000,
                                               .weights = text_of("ipc:///tmp/w"),
                                               .same_class = 1,
                                               .valid_vocab = WHOLE_VOCAB,
                                               .positions_max = WHOLE_POSITIONS};
    message.welcome.files = (struct model_file *)(uintptr_t)store_files(store, &message.welcome.file_count);
    return message;
}

struct message_lease whole_lease(uint64_t run, uint32_t slot, const struct message_manifest *manifest) {
    static int32_t stops[] = {5};
    return (struct message_lease){.key = {run, WORK_TRAIN, manifest->version, slot},
                                  .deadline_ms = 60000,
                                  .priority = manifest->version,
                                  .weights = manifest->weights,
                                  .version = manifest->version,
                                  .config = {5, 6},
                                  .temperature = 1,
                                  .stops = stops,
                                  .stop_count = 1,
                                  .seed = 77,
                                  .grading = {.question_id = text_of("q"),
                                              .question = text_of("?"),
                                              .set = text_of("s"),
                                              .class_label = text_of(""),
                                              .rule = text_of("both"),
                                              .known_k = -1}};
}

void whole_weights_open(void *context, const char *endpoint) {
    (void)context;
    (void)endpoint;
}

void whole_worker_open(void *context, uint32_t slot, const char *endpoint, const char *key) {
    (void)context;
    (void)slot;
    (void)endpoint;
    (void)key;
}

void whole_worker_close(void *context, uint32_t slot) {
    (void)context;
    (void)slot;
}

enum status whole_text(void *context, const int32_t *ids, uint32_t count, struct buf *out_text) {
    (void)context;
    buf_printf(out_text, "%u ids from %d", count, ids[0]);
    return STATUS_OK;
}
