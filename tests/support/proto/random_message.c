#include "tests/support/proto/random_message.h"

#include <math.h>
#include <string.h>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "proto/limits.h"
#include "proto/schema.h"

struct source {
    struct rng_key key;
    uint32_t position, elements_max;
    struct arena *arena;
};

static uint64_t draw(struct source *source) {
    uint32_t words[4];
    rng_words(&source->key, source->position++, words);
    return (uint64_t)words[1] << 32 | words[0];
}

static uint64_t between(struct source *source, uint64_t least, uint64_t most) {
    uint64_t span = most - least;
    uint64_t value = draw(source) >> (draw(source) & 63); /* small ones and large ones */
    return span == UINT64_MAX ? value : least + value % (span + 1);
}

static void *take(struct source *source, size_t bytes) {
    void *memory = arena_alloc(source->arena, bytes);
    ASSERT(memory);
    memset(memory, 0, bytes);
    return memory;
}

static struct text random_text(struct source *source, uint64_t least, uint64_t most, bool label) {
    static const char *const characters[] = {"a", "Z", " ", "\n", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\""};
    uint64_t bytes_most = between(source, least, most < 40 ? most : 40);
    char *data = take(source, bytes_most + 4);
    uint32_t bytes = 0;
    while (bytes < bytes_most) {
        const char *character = characters[draw(source) % 8];
        if ((label && character[0] == '\n') || bytes + strlen(character) > bytes_most)
            character = "x";
        memcpy(data + bytes, character, strlen(character));
        bytes += (uint32_t)strlen(character);
    }
    return (struct text){.data = data, .bytes = bytes};
}

static void fill_struct(struct source *source, const struct schema *schema, char *object);

static void fill_counted(struct source *source, const struct field *field, char *object) {
    uint32_t *count = (uint32_t *)(void *)(object + field->count_offset);
    uint64_t most = field->most < source->elements_max ? field->most : source->elements_max;
    if (*count == 0)
        *count = (uint32_t)between(source, field->least, most > field->least ? most : field->least);
    size_t width = field->kind == FIELD_BYTES                              ? 1
                   : field->kind == FIELD_IDS || field->kind == FIELD_F32S ? 4
                   : field->kind == FIELD_U64S                             ? 8
                   : field->kind == FIELD_TEXTS                            ? sizeof(struct text)
                                                                           : field->schema->bytes;
    char *data = take(source, *count * width);
    for (uint32_t i = 0; i < *count; i++) {
        char *element = data + i * width;
        if (field->kind == FIELD_BYTES)
            *element = (char)draw(source);
        else if (field->kind == FIELD_IDS)
            *(int32_t *)(void *)element = (int32_t)(draw(source) & INT32_MAX);
        else if (field->kind == FIELD_F32S)
            *(float *)(void *)element = -(float)(draw(source) % 100000) / 1024;
        else if (field->kind == FIELD_U64S)
            *(uint64_t *)(void *)element = draw(source);
        else if (field->kind == FIELD_TEXTS)
            *(struct text *)(void *)element = random_text(source, 0, field->text_most, false);
        else
            fill_struct(source, field->schema, element);
    }
    memcpy(object + field->offset, &data, sizeof data);
}

static void fill_struct(struct source *source, const struct schema *schema, char *object) {
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        void *member = object + field->offset;
        switch ((enum field_kind)field->kind) {
        case FIELD_U8:
            *(uint8_t *)member = (uint8_t)between(source, field->least, field->most);
            break;
        case FIELD_U32:
            *(uint32_t *)member = (uint32_t)between(source, field->least, field->most);
            break;
        case FIELD_U64:
            *(uint64_t *)member = between(source, field->least, field->most);
            break;
        case FIELD_I32:
            *(int32_t *)member =
                (int32_t)((int64_t)field->least + (int64_t)between(source, 0, field->most - field->least));
            break;
        case FIELD_F32:
            *(float *)member = field->nan_allowed && draw(source) % 4 == 0 ? NAN : (float)(draw(source) % 1000 + 1) / 8;
            break;
        case FIELD_F64:
            *(double *)member = (double)draw(source) / 3;
            break;
        case FIELD_DIGEST:
            *(struct digest *)member = (struct digest){.low = draw(source), .high = draw(source)};
            break;
        case FIELD_LABEL:
        case FIELD_TEXT:
            *(struct text *)member = random_text(source, field->least, field->most, field->kind == FIELD_LABEL);
            break;
        case FIELD_STRUCT:
            fill_struct(source, field->schema, member);
            break;
        default:
            fill_counted(source, field, object);
        }
    }
}

/* What the fields' bounds alone do not give (the checks of schema.c). */
static void repair(struct source *source, struct message *message) {
    if (message->type == MESSAGE_WELCOME) {
        for (uint32_t i = 0; i < message->welcome.file_count; i++)
            message->welcome.files[i].name = (struct text){.data = "config.json", .bytes = 11};
    } else if (message->type == MESSAGE_LEASE) {
        struct message_lease *lease = &message->lease;
        lease->shared_count %= lease->prompt_count + 1;
        lease->samples = lease->samples % 32 + 1;
        lease->max_new_tokens = lease->max_new_tokens % 4096 + 1;
    } else if (message->type == MESSAGE_SCORED) {
        struct message_scored *scored = &message->scored;
        scored->score_count = scored->group.sample_count;
        scored->scores = take(source, scored->score_count * sizeof scored->scores[0]);
        for (uint32_t i = 0; i < scored->score_count; i++) {
            scored->scores[i].verdict = (uint8_t)(draw(source) % VERDICT_COUNT);
            scored->scores[i].reward = draw(source) % 4 ? 0.5f : NAN;
            scored->scores[i].final_bytes = scored->group.samples[i].text.bytes;
        }
    }
}

struct message random_message(enum message_type type, uint32_t index, uint32_t elements_max, struct arena *arena) {
    struct source source = {
        .key = {.seed = 7, .step = (uint32_t)type, .slot = index, .stream = RNG_TEST},
        .elements_max = elements_max,
        .arena = arena,
    };
    struct message message = {.type = type};
    fill_struct(&source, message_schemas[type], (char *)&message + message_body_offset);
    repair(&source, &message);
    return message;
}
