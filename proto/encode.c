#include "proto/proto.h"

#include <msgpack.h>
#include <string.h>

#include "proto/check.h"

/* Arrays of numbers travel as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays of ids and log-probabilities are little endian");

static enum status encode_struct(msgpack_packer *packer, const struct schema *schema, const void *object,
                                 const char *type);

static int append(void *buf, const char *data, size_t bytes) {
    buf_append(buf, data, bytes);
    return buf_ok(buf) ? 0 : -1;
}

static void pack_string(msgpack_packer *packer, const char *string) {
    size_t bytes = strlen(string);
    msgpack_pack_str(packer, bytes);
    msgpack_pack_str_body(packer, string, bytes);
}

static enum status pack_text(msgpack_packer *packer, const struct field *field, const struct text *text,
                             uint64_t most) {
    TRY(check_text(field, text->data, text->bytes, most));
    msgpack_pack_str(packer, text->bytes);
    if (text->bytes > 0)
        msgpack_pack_str_body(packer, text->data, text->bytes);
    return STATUS_OK;
}

static void pack_digest(msgpack_packer *packer, struct digest digest) {
    uint8_t bytes[16];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(digest.high >> (56 - 8 * i));
        bytes[8 + i] = (uint8_t)(digest.low >> (56 - 8 * i));
    }
    msgpack_pack_bin(packer, sizeof bytes);
    msgpack_pack_bin_body(packer, bytes, sizeof bytes);
}

static void pack_bytes(msgpack_packer *packer, const void *data, size_t bytes) {
    msgpack_pack_bin(packer, bytes);
    if (bytes > 0)
        msgpack_pack_bin_body(packer, data, bytes);
}

static enum status pack_counted(msgpack_packer *packer, const struct field *field, const void *data, uint32_t count) {
    TRY(check_count(field, count));
    switch (field->kind) {
    case FIELD_BYTES:
        pack_bytes(packer, data, count);
        return STATUS_OK;
    case FIELD_IDS:
        TRY(check_ids(data, count));
        pack_bytes(packer, data, (size_t)count * sizeof(int32_t));
        return STATUS_OK;
    case FIELD_F32S:
        TRY(check_f32s(data, count));
        pack_bytes(packer, data, (size_t)count * sizeof(float));
        return STATUS_OK;
    default:
        break;
    }
    msgpack_pack_array(packer, count);
    for (uint32_t i = 0; i < count; i++) {
        if (field->kind == FIELD_U64S)
            msgpack_pack_uint64(packer, ((const uint64_t *)data)[i]);
        else if (field->kind == FIELD_TEXTS)
            TRY(pack_text(packer, field, &((const struct text *)data)[i], field->text_most));
        else
            TRY(encode_struct(packer, field->schema, (const char *)data + i * field->schema->bytes, NULL));
    }
    return STATUS_OK;
}

static enum status pack_integer(msgpack_packer *packer, const struct field *field, const void *member) {
    uint64_t value = 0;
    if (field->kind == FIELD_I32) {
        int32_t number = *(const int32_t *)member;
        TRY(check_signed(field, number));
        msgpack_pack_int32(packer, number);
        return STATUS_OK;
    }
    if (field->kind == FIELD_U8)
        value = *(const uint8_t *)member;
    else if (field->kind == FIELD_U32)
        value = *(const uint32_t *)member;
    else
        value = *(const uint64_t *)member;
    TRY(check_unsigned(field, value));
    msgpack_pack_uint64(packer, value);
    return STATUS_OK;
}

static enum status encode_field(msgpack_packer *packer, const struct field *field, const char *object) {
    const void *member = object + field->offset;
    switch ((enum field_kind)field->kind) {
    case FIELD_U8:
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_I32:
        return pack_integer(packer, field, member);
    case FIELD_F32:
        TRY(check_real(field, (double)*(const float *)member));
        msgpack_pack_float(packer, *(const float *)member);
        return STATUS_OK;
    case FIELD_F64:
        TRY(check_real(field, *(const double *)member));
        msgpack_pack_double(packer, *(const double *)member);
        return STATUS_OK;
    case FIELD_DIGEST:
        pack_digest(packer, *(const struct digest *)member);
        return STATUS_OK;
    case FIELD_LABEL:
    case FIELD_TEXT:
        return pack_text(packer, field, member, field->most);
    case FIELD_STRUCT:
        return encode_struct(packer, field->schema, member, NULL);
    case FIELD_BYTES:
    case FIELD_IDS:
    case FIELD_F32S:
    case FIELD_U64S:
    case FIELD_TEXTS:
    case FIELD_ARRAY: {
        const void *data;
        uint32_t count;
        memcpy(&data, member, sizeof data);
        memcpy(&count, object + field->count_offset, sizeof count);
        return pack_counted(packer, field, data, count);
    }
    }
    return fail(STATUS_FORMAT, "unknown kind of field");
}

/* type: the message's name, which is the map's first entry; NULL within. */
static enum status encode_struct(msgpack_packer *packer, const struct schema *schema, const void *object,
                                 const char *type) {
    msgpack_pack_map(packer, schema->field_count + (type ? 1 : 0));
    if (type) {
        pack_string(packer, "type");
        pack_string(packer, type);
    }
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        pack_string(packer, field->name);
        enum status status = encode_field(packer, field, object);
        if (status != STATUS_OK)
            return fail_context(status, "%s", field->name);
    }
    const char *wrong = schema->check ? schema->check(object) : NULL;
    return wrong ? fail(STATUS_LIMIT, "%s", wrong) : STATUS_OK;
}

enum status proto_encode(const struct message *message, struct buf *out) {
    ASSERT((unsigned)message->type < MESSAGE_TYPE_COUNT);
    const struct schema *schema = message_schemas[message->type];
    size_t before = out->bytes;
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, append);
    enum status status = encode_struct(&packer, schema, (const char *)message + message_body_offset, schema->name);
    if (!buf_ok(out))
        return fail(STATUS_NO_MEMORY, "%s message: no memory", schema->name);
    if (status == STATUS_OK && out->bytes - before > FRAME_BYTES_MAX)
        status = fail(STATUS_LIMIT, "%zu bytes, at most %u", out->bytes - before, FRAME_BYTES_MAX);
    if (status != STATUS_OK) {
        out->bytes = before;
        return fail_context(status, "%s message", schema->name);
    }
    return STATUS_OK;
}

const char *message_name(enum message_type type) {
    return (unsigned)type < MESSAGE_TYPE_COUNT ? message_schemas[type]->name : "?";
}
