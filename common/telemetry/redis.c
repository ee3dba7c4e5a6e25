#include "common/telemetry/redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGUMENTS_MAX (16 + 2 * TELEMETRY_PAIRS_MAX)
#define KEY_BYTES (2 * TELEMETRY_TEXT_BYTES + 32)
#define NUMBER_BYTES 32

enum status redis_target_parse(const char *text, struct redis_target *out_target) {
    struct redis_target target = {.port = 0};
    char *end = NULL;
    const char *colon = strrchr(text, ':');
    if (strlen(text) >= sizeof target.text)
        return fail(STATUS_CONFIG, "telemetry.redis = %.60s...: longer than %zu bytes", text, sizeof target.text - 1);
    strcpy(target.text, text);
    if (text[0] != '/') {
        target.port = colon ? (int)strtol(colon + 1, &end, 10) : 0;
        if (!colon || colon == text || *end != '\0' || target.port < 1 || target.port > 65535)
            return fail(STATUS_CONFIG, "telemetry.redis = %s: right would be host:port or the /path of a socket", text);
        memcpy(target.host, text, (size_t)(colon - text));
    }
    *out_target = target;
    return STATUS_OK;
}

void redis_disconnect(struct redis_writer *writer) {
    if (writer->context)
        redisFree(writer->context);
    writer->context = NULL;
}

enum status redis_connect(struct redis_writer *writer, const struct redis_target *target) {
    const struct timeval timeout = {.tv_usec = REDIS_TIMEOUT_MS * 1000};
    if (writer->context)
        return STATUS_OK;
    writer->context = target->host[0] ? redisConnectWithTimeout(target->host, target->port, timeout)
                                      : redisConnectUnixWithTimeout(target->text, timeout);
    if (!writer->context)
        return fail(STATUS_NO_MEMORY, "redis: no memory");
    if (writer->context->err || redisSetTimeout(writer->context, timeout) != REDIS_OK) {
        enum status status = fail(STATUS_IO, "%s", writer->context->errstr);
        redis_disconnect(writer);
        return status;
    }
    return STATUS_OK;
}

/* ---- commands ---- */

/* Arguments of one command; numbers are kept in texts. */
struct command {
    int count;
    const char *arguments[ARGUMENTS_MAX];
    char key[KEY_BYTES];
    char texts[TELEMETRY_PAIRS_MAX + 8][NUMBER_BYTES];
    int text_count;
};

static void add(struct command *command, const char *argument) {
    ASSERT(command->count < ARGUMENTS_MAX);
    command->arguments[command->count++] = argument;
}

static void begin(struct command *command, const char *name, const char *run, const char *rest, const char *last) {
    command->count = command->text_count = 0;
    snprintf(command->key, sizeof command->key, "candor:%s:%s%s", run, rest, last);
    add(command, name);
    add(command, command->key);
}

static void add_int(struct command *command, int64_t value) {
    char *text = command->texts[command->text_count++];
    snprintf(text, NUMBER_BYTES, "%lld", (long long)value);
    add(command, text);
}

/* Nine digits are enough for a chart, and the totals that Candor counts stay below 2^53. */
static void add_double(struct command *command, double value) {
    char *text = command->texts[command->text_count++];
    if (value == (double)(int64_t)value && value < 9e15 && value > -9e15)
        snprintf(text, NUMBER_BYTES, "%lld", (long long)value);
    else
        snprintf(text, NUMBER_BYTES, "%.9g", value);
    add(command, text);
}

static void add_pairs(struct command *command, const struct record *record) {
    for (uint32_t i = 0; i < record->pair_count; i++) {
        add(command, record->pairs[i].name);
        add_double(command, record->pairs[i].value);
    }
}

static int append(struct redis_writer *writer, const struct command *command) {
    return redisAppendCommandArgv(writer->context, command->count, (const char **)(uintptr_t)command->arguments, NULL);
}

#define PROCESS_COMMANDS 4
static int append_process(struct redis_writer *writer, struct command *command, const char *run,
                          const struct record *record) {
    begin(command, "HSET", run, "process:", record->name);
    add(command, "role");
    add(command, record->role);
    add(command, "host");
    add(command, record->host);
    add(command, "state");
    add(command, record->state);
    add(command, "at_ms");
    add_int(command, record->at_ms);
    add_pairs(command, record);
    int result = append(writer, command);
    begin(command, "EXPIRE", run, "process:", record->name);
    add_int(command, TELEMETRY_PROCESS_TTL_S);
    result |= append(writer, command);
    begin(command, "ZADD", run, "processes", "");
    add_int(command, record->at_ms);
    add(command, record->name);
    result |= append(writer, command);
    begin(command, "ZREMRANGEBYSCORE", run, "processes", "");
    add(command, "-inf");
    add_int(command, record->at_ms - (int64_t)TELEMETRY_PROCESS_FORGET_S * 1000);
    return result | append(writer, command);
}

#define SAMPLE_COMMANDS 2
static int append_sample(struct redis_writer *writer, struct command *command, const char *run,
                         struct redis_batch *batch, uint32_t index) {
    const struct record *record = &batch->records[index];
    if (batch->ids[index].ms == 0) {
        bool later = record->at_ms > writer->last_id_ms;
        writer->last_id_ms = later ? record->at_ms : writer->last_id_ms;
        writer->last_id_sequence = later ? 0 : writer->last_id_sequence + 1;
        batch->ids[index].ms = writer->last_id_ms;
        batch->ids[index].sequence = writer->last_id_sequence;
    }
    char id[64];
    snprintf(id, sizeof id, "%lld-%llu", (long long)batch->ids[index].ms,
             (unsigned long long)batch->ids[index].sequence);
    begin(command, "XADD", run, "samples", "");
    add(command, "MAXLEN");
    add(command, "~");
    add_int(command, TELEMETRY_SAMPLES_MAX);
    add(command, id);
    add(command, "telemetry_dropped");
    add_int(command, (int64_t)batch->dropped);
    add_pairs(command, record);
    int result = append(writer, command);
    begin(command, "EXPIRE", run, "samples", "");
    add_int(command, TELEMETRY_SAMPLES_TTL_S);
    return result | append(writer, command);
}

/* The answers to one record's commands. again: a sample whose id is in the stream was written by the attempt before. */
static enum status read_answers(struct redis_writer *writer, int commands, bool again, bool *out_refused) {
    bool refused = false;
    for (int i = 0; i < commands; i++) {
        redisReply *reply = NULL;
        if (redisGetReply(writer->context, (void **)&reply) != REDIS_OK || !reply)
            return fail(STATUS_IO, "%s", writer->context->errstr);
        if (reply->type == REDIS_REPLY_ERROR && !(again && strstr(reply->str, "equal or smaller"))) {
            refused = true;
            snprintf(writer->refusal, sizeof writer->refusal, "%s", reply->str);
        }
        freeReplyObject(reply);
    }
    *out_refused = refused;
    return STATUS_OK;
}

enum status redis_write(struct redis_writer *writer, const char *run, struct redis_batch *batch,
                        uint32_t *out_refused) {
    struct command command;
    uint32_t refused_count = 0;
    bool again = batch->again;
    batch->again = true;
    int result = REDIS_OK;
    for (uint32_t i = 0; i < batch->count; i++)
        result |= batch->records[i].is_sample ? append_sample(writer, &command, run, batch, i)
                                              : append_process(writer, &command, run, &batch->records[i]);
    if (result != REDIS_OK)
        return fail(STATUS_NO_MEMORY, "redis: no memory for a pipeline");
    for (uint32_t i = 0; i < batch->count; i++) {
        bool refused = false;
        TRY(read_answers(writer, batch->records[i].is_sample ? SAMPLE_COMMANDS : PROCESS_COMMANDS, again, &refused));
        refused_count += refused;
    }
    for (uint32_t i = 0; i < batch->count; i++)
        batch->ids[i].ms = 0;
    batch->again = false;
    *out_refused = refused_count;
    return STATUS_OK;
}
