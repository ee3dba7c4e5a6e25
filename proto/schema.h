/* The table of fields that encoding and decoding run over: one row a field, one table a message (schema.c). */
#ifndef CANDOR_PROTO_SCHEMA_H
#define CANDOR_PROTO_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/messages.h"

/* kind: type in C, type in msgpack, meaning of least and most. */
enum field_kind {
    FIELD_U8,     /* uint8_t, integer, value */
    FIELD_U32,    /* uint32_t, integer, value */
    FIELD_U64,    /* uint64_t, integer, value */
    FIELD_I32,    /* int32_t, integer, value (as int64_t) */
    FIELD_F32,    /* float, any number, unused: finite, or also NaN with nan_allowed */
    FIELD_F64,    /* double, any number, unused: finite */
    FIELD_DIGEST, /* struct digest, bin of 16: the bytes of its 32 hex digits */
    FIELD_LABEL,  /* struct text, str without control characters: it may stand in a log line; bytes */
    FIELD_TEXT,   /* struct text, str; bytes */
    FIELD_BYTES,  /* const uint8_t * and count, bin; bytes */
    FIELD_IDS,    /* int32_t * and count, bin of int32 little endian, each >= 0; count */
    FIELD_F32S,   /* float * and count, bin of fp32 little endian, each finite; count */
    FIELD_U64S,   /* uint64_t * and count, array of integers; count */
    FIELD_TEXTS,  /* struct text * and count, array of str; count, with text_most for each */
    FIELD_STRUCT, /* nested struct, map */
    FIELD_ARRAY,  /* pointer to structs and count, array of maps; count */
};

struct schema;

struct field {
    const char *name;
    uint8_t kind;
    bool optional; /* may be missing in a frame: zero then. Always written */
    bool nan_allowed;
    size_t offset;
    size_t count_offset; /* of the uint32_t count; two fields with one count must have as many elements */
    uint64_t least, most;
    uint32_t text_most;
    const struct schema *schema; /* STRUCT, ARRAY */
};

struct schema {
    const char *name; /* of the message; "" for structs within */
    size_t bytes;     /* sizeof the struct */
    const struct field *fields;
    uint32_t field_count; /* <= 64 */
    /* What no field can say alone; NULL, or what is wrong. */
    const char *(*check)(const void *object);
};

extern const struct schema *const message_schemas[MESSAGE_TYPE_COUNT];
/* Where the message's own struct lies in struct message. */
extern const size_t message_body_offset;

#endif
