#include "proto/cursor.h"

#include <string.h>

/* Source: https://github.com/msgpack/msgpack/blob/master/spec.md, "Formats". */

size_t cursor_left(const struct cursor *cursor) {
    return (size_t)(cursor->end - cursor->at);
}

static enum status cut_off(void) {
    return fail(STATUS_FORMAT, "ends within a value");
}

/* A big-endian number of 1, 2, 4 or 8 bytes. */
static enum status read_number(struct cursor *cursor, unsigned bytes, uint64_t *out_value) {
    if (cursor_left(cursor) < bytes)
        return cut_off();
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | cursor->at[i];
    cursor->at += bytes;
    *out_value = value;
    return STATUS_OK;
}

static enum status take_body(struct cursor *cursor, enum wire_kind kind, uint64_t bytes, struct wire *out_wire) {
    if (bytes > cursor_left(cursor))
        return cut_off();
    *out_wire = (struct wire){.kind = kind, .data = cursor->at, .count = (uint32_t)bytes};
    cursor->at += bytes;
    return STATUS_OK;
}

static enum status open_container(struct cursor *cursor, enum wire_kind kind, uint64_t count, struct wire *out_wire) {
    if (count * (kind == WIRE_MAP ? 2 : 1) > cursor_left(cursor))
        return fail(STATUS_FORMAT, "claims %llu elements where %zu bytes are left", (unsigned long long)count,
                    cursor_left(cursor));
    *out_wire = (struct wire){.kind = kind, .count = (uint32_t)count};
    return STATUS_OK;
}

static enum status read_signed(struct cursor *cursor, unsigned bytes, struct wire *out_wire) {
    uint64_t raw = 0;
    TRY(read_number(cursor, bytes, &raw));
    unsigned shift = 64 - 8 * bytes;
    int64_t value = (int64_t)(raw << shift) >> shift;
    if (value < 0)
        *out_wire = (struct wire){.kind = WIRE_NEGATIVE, .negative = value};
    else
        *out_wire = (struct wire){.kind = WIRE_UINT, .uint = (uint64_t)value};
    return STATUS_OK;
}

static enum status read_float(struct cursor *cursor, unsigned bytes, struct wire *out_wire) {
    uint64_t raw = 0;
    TRY(read_number(cursor, bytes, &raw));
    double value;
    if (bytes == 4) {
        uint32_t bits = (uint32_t)raw;
        float single;
        memcpy(&single, &bits, sizeof single);
        value = (double)single;
    } else {
        memcpy(&value, &raw, sizeof value);
    }
    *out_wire = (struct wire){.kind = WIRE_FLOAT, .real = value};
    return STATUS_OK;
}

/* A length of that many bytes, then the body or the elements. */
static enum status read_sized(struct cursor *cursor, enum wire_kind kind, unsigned length_bytes,
                              struct wire *out_wire) {
    uint64_t count = 0;
    TRY(read_number(cursor, length_bytes, &count));
    if (kind == WIRE_ARRAY || kind == WIRE_MAP)
        return open_container(cursor, kind, count, out_wire);
    return take_body(cursor, kind, kind == WIRE_EXT ? count + 1 : count, out_wire); /* ext: one byte of type */
}

enum status cursor_next(struct cursor *cursor, struct wire *out_wire) {
    uint64_t tag = 0;
    TRY(read_number(cursor, 1, &tag));
    if (tag <= 0x7f || tag >= 0xe0) { /* small integers */
        cursor->at--;
        return read_signed(cursor, 1, out_wire);
    }
    if (tag <= 0x8f)
        return open_container(cursor, WIRE_MAP, tag & 0x0f, out_wire);
    if (tag <= 0x9f)
        return open_container(cursor, WIRE_ARRAY, tag & 0x0f, out_wire);
    if (tag <= 0xbf)
        return take_body(cursor, WIRE_STR, tag & 0x1f, out_wire);
    switch (tag) {
    case 0xc0:
        *out_wire = (struct wire){.kind = WIRE_NIL};
        return STATUS_OK;
    case 0xc2:
    case 0xc3:
        *out_wire = (struct wire){.kind = WIRE_BOOL, .uint = tag & 1};
        return STATUS_OK;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return read_sized(cursor, WIRE_BIN, 1u << (tag - 0xc4), out_wire);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return read_sized(cursor, WIRE_EXT, 1u << (tag - 0xc7), out_wire);
    case 0xca:
    case 0xcb:
        return read_float(cursor, 4u << (tag - 0xca), out_wire);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        TRY(read_number(cursor, 1u << (tag - 0xcc), &tag));
        *out_wire = (struct wire){.kind = WIRE_UINT, .uint = tag};
        return STATUS_OK;
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return read_signed(cursor, 1u << (tag - 0xd0), out_wire);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return take_body(cursor, WIRE_EXT, (1u << (tag - 0xd4)) + 1, out_wire);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return read_sized(cursor, WIRE_STR, 1u << (tag - 0xd9), out_wire);
    case 0xdc:
    case 0xdd:
        return read_sized(cursor, WIRE_ARRAY, 2u << (tag - 0xdc), out_wire);
    case 0xde:
    case 0xdf:
        return read_sized(cursor, WIRE_MAP, 2u << (tag - 0xde), out_wire);
    default: /* 0xc1 */
        return fail(STATUS_FORMAT, "a byte that msgpack never uses");
    }
}

enum status cursor_skip(struct cursor *cursor, int depth) {
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_ARRAY && wire.kind != WIRE_MAP)
        return STATUS_OK;
    if (depth <= 0)
        return fail(STATUS_FORMAT, "nested too deep");
    uint64_t values = (uint64_t)wire.count * (wire.kind == WIRE_MAP ? 2 : 1);
    for (uint64_t i = 0; i < values; i++)
        TRY(cursor_skip(cursor, depth - 1));
    return STATUS_OK;
}
