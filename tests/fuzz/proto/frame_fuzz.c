/* Any bytes as a frame: refused, or read into a message that is written and read back to the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct arena arena;
    struct message message, again;
    struct buf first = {0}, second = {0};
    arena_init(&arena, 2 * proto_arena_bytes(bytes));
    uint8_t *frame = malloc(bytes > 0 ? bytes : 1); /* its own block: a read past its end is caught */
    ASSERT(frame);
    if (bytes > 0)
        memcpy(frame, data, bytes);
    enum status status = proto_decode(frame, bytes, &arena, &message);
    ASSERT(status == STATUS_OK || status == STATUS_FORMAT); /* proto_arena_bytes is always enough */
    ASSERT(arena.used <= proto_arena_bytes(bytes));
    if (status == STATUS_OK) {
        ASSERT(proto_encode(&message, &first) == STATUS_OK);
        ASSERT(proto_decode(first.data, first.bytes, &arena, &again) == STATUS_OK);
        ASSERT(proto_encode(&again, &second) == STATUS_OK);
        ASSERT(first.bytes == second.bytes && memcmp(first.data, second.data, first.bytes) == 0);
    }
    buf_deinit(&first);
    buf_deinit(&second);
    free(frame);
    arena_deinit(&arena);
    return 0;
}
