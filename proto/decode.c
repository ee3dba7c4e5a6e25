#include "proto/proto.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "proto/check.h"
#include "proto/cursor.h"

static enum status decode_pairs(struct cursor *cursor, const struct schema *schema, uint32_t pair_count,
                                struct arena *arena, int depth, void *object);

static enum status wrong_kind(const char *wanted) {
    return fail(STATUS_FORMAT, "not %s", wanted);
}

static enum status no_memory(void) {
    return fail(STATUS_NO_MEMORY, "arena is full");
}

/* Texts are never NULL after decoding, not even those that were missing. */
static void clear_texts(const struct schema *schema, char *object) {
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        if (field->kind == FIELD_LABEL || field->kind == FIELD_TEXT)
            *(struct text *)(void *)(object + field->offset) = text_of("");
        else if (field->kind == FIELD_STRUCT)
            clear_texts(field->schema, object + field->offset);
    }
}

/* ---- single values ---- */

static enum status decode_integer(struct cursor *cursor, const struct field *field, void *member) {
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_UINT && wire.kind != WIRE_NEGATIVE && wire.kind != WIRE_BOOL)
        return wrong_kind("an integer");
    if (field->kind == FIELD_I32) {
        if (wire.kind != WIRE_NEGATIVE && wire.uint > INT32_MAX)
            return fail(STATUS_FORMAT, "%llu does not fit 32 bits", (unsigned long long)wire.uint);
        int64_t value = wire.kind == WIRE_NEGATIVE ? wire.negative : (int64_t)wire.uint;
        TRY(check_signed(field, value));
        *(int32_t *)member = (int32_t)value;
        return STATUS_OK;
    }
    if (wire.kind == WIRE_NEGATIVE)
        return fail(STATUS_FORMAT, "%lld is negative", (long long)wire.negative);
    TRY(check_unsigned(field, wire.uint)); /* `most` never exceeds the member's type */
    if (field->kind == FIELD_U8)
        *(uint8_t *)member = (uint8_t)wire.uint;
    else if (field->kind == FIELD_U32)
        *(uint32_t *)member = (uint32_t)wire.uint;
    else
        *(uint64_t *)member = wire.uint;
    return STATUS_OK;
}

static enum status decode_real(struct cursor *cursor, const struct field *field, void *member) {
    struct wire wire;
    double value;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind == WIRE_FLOAT)
        value = wire.real;
    else if (wire.kind == WIRE_UINT)
        value = (double)wire.uint;
    else if (wire.kind == WIRE_NEGATIVE)
        value = (double)wire.negative;
    else
        return wrong_kind("a number");
    TRY(check_real(field, value));
    if (field->kind == FIELD_F64) {
        *(double *)member = value;
        return STATUS_OK;
    }
    if (fabs(value) > (double)FLT_MAX)
        return fail(STATUS_FORMAT, "does not fit fp32");
    *(float *)member = (float)value; /* to nearest: writers without fp32 send doubles */
    return STATUS_OK;
}

static enum status decode_digest(struct cursor *cursor, void *member) {
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_BIN || wire.count != 16)
        return wrong_kind("16 bytes of bin");
    struct digest digest = {0};
    for (int i = 0; i < 8; i++) {
        digest.high = digest.high << 8 | wire.data[i];
        digest.low = digest.low << 8 | wire.data[8 + i];
    }
    memcpy(member, &digest, sizeof digest);
    return STATUS_OK;
}

static enum status decode_text(struct cursor *cursor, const struct field *field, uint64_t most, struct arena *arena,
                               struct text *out_text) {
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_STR)
        return wrong_kind("a str");
    TRY(check_text(field, (const char *)wire.data, wire.count, most));
    const char *copy = arena_copy(arena, wire.data, wire.count);
    if (!copy)
        return no_memory();
    *out_text = (struct text){.data = copy, .bytes = wire.count};
    return STATUS_OK;
}

/* ---- many values ---- */

/* Bytes of the shortest encoding of one struct: no count is believed beyond bytes left / this. */
static size_t struct_bytes_least(const struct schema *schema) {
    size_t bytes = 1;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if (!schema->fields[i].optional)
            bytes += 1 + strlen(schema->fields[i].name) + 1;
    }
    return bytes;
}

/* Numbers in a bin, copied so that they are aligned. */
static enum status decode_numbers(struct cursor *cursor, const struct field *field, struct arena *arena,
                                  const void **out_data, uint32_t *out_count) {
    size_t width = field->kind == FIELD_BYTES ? 1 : 4;
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_BIN || wire.count % width != 0)
        return wrong_kind(width == 1 ? "bin" : "bin of whole 4-byte numbers");
    uint32_t count = wire.count / (uint32_t)width;
    TRY(check_count(field, count));
    if (field->kind == FIELD_BYTES) {
        *out_data = wire.data;
        *out_count = count;
        return STATUS_OK;
    }
    void *copy = arena_alloc(arena, wire.count);
    if (!copy)
        return no_memory();
    if (wire.count > 0)
        memcpy(copy, wire.data, wire.count);
    TRY(field->kind == FIELD_IDS ? check_ids(copy, count) : check_f32s(copy, count));
    *out_data = copy;
    *out_count = count;
    return STATUS_OK;
}

static enum status decode_u64(struct cursor *cursor, uint64_t *out_value) {
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_UINT)
        return wrong_kind("an integer from 0");
    *out_value = wire.uint;
    return STATUS_OK;
}

static enum status decode_element(struct cursor *cursor, const struct field *field, struct arena *arena, int depth,
                                  void *element) {
    if (field->kind == FIELD_U64S)
        return decode_u64(cursor, element);
    if (field->kind == FIELD_TEXTS)
        return decode_text(cursor, field, field->text_most, arena, element);
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_MAP)
        return wrong_kind("a map");
    clear_texts(field->schema, element);
    return decode_pairs(cursor, field->schema, wire.count, arena, depth - 1, element);
}

static enum status decode_array(struct cursor *cursor, const struct field *field, struct arena *arena, int depth,
                                const void **out_data, uint32_t *out_count) {
    size_t width = field->kind == FIELD_U64S    ? sizeof(uint64_t)
                   : field->kind == FIELD_TEXTS ? sizeof(struct text)
                                                : field->schema->bytes;
    size_t least = field->kind == FIELD_ARRAY ? struct_bytes_least(field->schema) : 1;
    struct wire wire;
    TRY(cursor_next(cursor, &wire));
    if (wire.kind != WIRE_ARRAY)
        return wrong_kind("an array");
    TRY(check_count(field, wire.count));
    if (wire.count > cursor_left(cursor) / least)
        return fail(STATUS_FORMAT, "claims %u elements where %zu bytes are left", wire.count, cursor_left(cursor));
    char *elements = arena_alloc(arena, wire.count * width);
    if (!elements)
        return no_memory();
    memset(elements, 0, wire.count * width);
    for (uint32_t i = 0; i < wire.count; i++)
        TRY(decode_element(cursor, field, arena, depth - 1, elements + i * width));
    *out_data = elements;
    *out_count = wire.count;
    return STATUS_OK;
}

/* ---- fields and structs ---- */

static enum status decode_field(struct cursor *cursor, const struct field *field, struct arena *arena, int depth,
                                char *object, bool count_known) {
    void *member = object + field->offset;
    switch ((enum field_kind)field->kind) {
    case FIELD_U8:
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_I32:
        return decode_integer(cursor, field, member);
    case FIELD_F32:
    case FIELD_F64:
        return decode_real(cursor, field, member);
    case FIELD_DIGEST:
        return decode_digest(cursor, member);
    case FIELD_LABEL:
    case FIELD_TEXT:
        return decode_text(cursor, field, field->most, arena, member);
    case FIELD_STRUCT: {
        struct wire wire;
        TRY(cursor_next(cursor, &wire));
        if (wire.kind != WIRE_MAP)
            return wrong_kind("a map");
        return decode_pairs(cursor, field->schema, wire.count, arena, depth - 1, member);
    }
    case FIELD_BYTES:
    case FIELD_IDS:
    case FIELD_F32S:
    case FIELD_U64S:
    case FIELD_TEXTS:
    case FIELD_ARRAY:
        break;
    }
    const void *data = NULL;
    uint32_t count = 0, *known = (uint32_t *)(void *)(object + field->count_offset);
    if (field->kind == FIELD_BYTES || field->kind == FIELD_IDS || field->kind == FIELD_F32S)
        TRY(decode_numbers(cursor, field, arena, &data, &count));
    else
        TRY(decode_array(cursor, field, arena, depth, &data, &count));
    if (count_known && count != *known)
        return fail(STATUS_FORMAT, "%u elements beside %u of its twin", count, *known);
    memcpy(member, &data, sizeof data);
    *known = count;
    return STATUS_OK;
}

/* The row of a key; writers that follow the table hit it at once. */
static uint32_t find_field(const struct schema *schema, uint32_t expected, const struct wire *key) {
    for (uint32_t i = 0; i < schema->field_count; i++) {
        uint32_t at = expected + i < schema->field_count ? expected + i : expected + i - schema->field_count;
        const char *name = schema->fields[at].name;
        if (strlen(name) == key->count && memcmp(name, key->data, key->count) == 0)
            return at;
    }
    return schema->field_count;
}

static bool counted(const struct field *field) {
    return field->kind == FIELD_IDS || field->kind == FIELD_F32S;
}

/* Another field with the same count was read before. */
static bool count_was_read(const struct schema *schema, uint32_t index, uint64_t seen) {
    const struct field *field = &schema->fields[index];
    for (uint32_t i = 0; counted(field) && i < schema->field_count; i++) {
        if (i != index && (seen >> i & 1) && counted(&schema->fields[i]) &&
            schema->fields[i].count_offset == field->count_offset)
            return true;
    }
    return false;
}

static enum status decode_pairs(struct cursor *cursor, const struct schema *schema, uint32_t pair_count,
                                struct arena *arena, int depth, void *object) {
    if (depth < 0)
        return fail(STATUS_FORMAT, "nested too deep");
    uint64_t seen = 0;
    uint32_t expected = 0;
    for (uint32_t pair = 0; pair < pair_count; pair++) {
        struct wire key;
        TRY(cursor_next(cursor, &key));
        if (key.kind != WIRE_STR)
            return fail(STATUS_FORMAT, "a key that is not a str");
        uint32_t index = find_field(schema, expected, &key);
        if (index == schema->field_count) { /* of a later protocol */
            TRY(cursor_skip(cursor, depth));
            continue;
        }
        const struct field *field = &schema->fields[index];
        if (seen >> index & 1)
            return fail(STATUS_FORMAT, "%s: stands twice", field->name);
        enum status status = decode_field(cursor, field, arena, depth, object, count_was_read(schema, index, seen));
        if (status != STATUS_OK)
            return fail_context(status, "%s", field->name);
        seen |= (uint64_t)1 << index;
        expected = index + 1;
    }
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if (!schema->fields[i].optional && !(seen >> i & 1))
            return fail(STATUS_FORMAT, "%s: missing", schema->fields[i].name);
    }
    const char *wrong = schema->check ? schema->check(object) : NULL;
    return wrong ? fail(STATUS_FORMAT, "%s", wrong) : STATUS_OK;
}

/* The map's header and its first pair, which names the message. */
static enum status decode_type(struct cursor *cursor, uint32_t *out_pairs, enum message_type *out_type) {
    struct wire map, key, name;
    TRY(cursor_next(cursor, &map));
    if (map.kind != WIRE_MAP || map.count == 0)
        return wrong_kind("a map that begins with its type");
    TRY(cursor_next(cursor, &key));
    if (key.kind != WIRE_STR || key.count != 4 || memcmp(key.data, "type", 4) != 0)
        return wrong_kind("a map that begins with its type");
    TRY(cursor_next(cursor, &name));
    if (name.kind != WIRE_STR)
        return wrong_kind("a map that begins with its type");
    for (int type = 0; type < MESSAGE_TYPE_COUNT; type++) {
        const char *known = message_schemas[type]->name;
        if (strlen(known) == name.count && memcmp(known, name.data, name.count) == 0) {
            *out_pairs = map.count - 1;
            *out_type = (enum message_type)type;
            return STATUS_OK;
        }
    }
    return fail(STATUS_FORMAT, "unknown type of message");
}

enum status proto_decode(const void *frame, size_t bytes, struct arena *arena, struct message *out_message) {
    if (bytes > FRAME_BYTES_MAX)
        return fail(STATUS_FORMAT, "%zu bytes, at most %u", bytes, FRAME_BYTES_MAX);
    struct cursor cursor = {.at = frame, .end = (const uint8_t *)frame + bytes};
    struct message message = {0};
    uint32_t pairs = 0;
    TRY(decode_type(&cursor, &pairs, &message.type));
    const struct schema *schema = message_schemas[message.type];
    clear_texts(schema, (char *)&message + message_body_offset);
    enum status status =
        decode_pairs(&cursor, schema, pairs, arena, PROTO_DEPTH_MAX - 1, (char *)&message + message_body_offset);
    if (status == STATUS_OK && cursor_left(&cursor) > 0)
        status = fail(STATUS_FORMAT, "%zu bytes behind its end", cursor_left(&cursor));
    if (status != STATUS_OK)
        return fail_context(status == STATUS_NO_MEMORY ? status : STATUS_FORMAT, "%s", schema->name);
    *out_message = message;
    return STATUS_OK;
}

/* A text of b bytes takes at most b + 32 in the arena and at least b + 1 in the frame; every other field takes no more than
 * its fixed-size struct. Texts are at most 4 for each of SAMPLES_MAX + ALIASES_MAX + HELD_MAX elements. */
size_t proto_arena_bytes(size_t frame_bytes) {
    return 2 * frame_bytes + (1u << 20);
}
