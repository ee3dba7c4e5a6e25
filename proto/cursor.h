/* Reading msgpack one token at a time from memory that nobody vouches for. Whatever a header claims is checked against the
 * bytes that are left before it is believed; nothing is allocated here. */
#ifndef CANDOR_PROTO_CURSOR_H
#define CANDOR_PROTO_CURSOR_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

struct cursor {
    const uint8_t *at, *end;
};

enum wire_kind {
    WIRE_NIL,
    WIRE_BOOL,
    WIRE_UINT,
    WIRE_NEGATIVE,
    WIRE_FLOAT,
    WIRE_STR,
    WIRE_BIN,
    WIRE_EXT,
    WIRE_ARRAY,
    WIRE_MAP
};

struct wire {
    enum wire_kind kind;
    union {
        uint64_t uint;    /* BOOL, UINT */
        int64_t negative; /* NEGATIVE: < 0 */
        double real;      /* FLOAT: 32 or 64 bits */
        struct {
            const uint8_t *data; /* STR, BIN, EXT: within the input */
            uint32_t count;      /* bytes; elements of an ARRAY, pairs of a MAP: each has at least a byte (two) left */
        };
    };
};

/* The next token. For STR, BIN and EXT the cursor moves behind the body; for ARRAY and MAP the elements follow.
 * STATUS_FORMAT. */
enum status cursor_next(struct cursor *cursor, struct wire *out_wire);
/* Pass over one value with all that is in it; depth: levels that it may go down. Linear in its bytes. */
enum status cursor_skip(struct cursor *cursor, int depth);
size_t cursor_left(const struct cursor *cursor);

#endif
