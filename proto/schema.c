#include "proto/schema.h"

#include "common/base/verdict.h"
#include "proto/limits.h"
#include "proto/proto.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One row: KIND(struct, member, least, most), behind it further members of struct field. */
#define ROW(kind_, type, member, ...)                                                                                  \
    { .name = #member, .kind = FIELD_##kind_, .offset = offsetof(struct type, member), __VA_ARGS__ }
#define BOUNDS(least_, most_) .least = (least_), .most = (most_)
#define COUNTED(type, count, least_, most_)                                                                            \
    .count_offset = offsetof(struct type, count), .least = (least_), .most = (most_)
#define WITHIN(table) .schema = &(table)
#define OPTIONAL .optional = true

#define SCHEMA(name_, type, table, check_)                                                                             \
    static const struct schema type##_schema = {.name = (name_),                                                       \
                                                .bytes = sizeof(struct type),                                          \
                                                .fields = (table),                                                     \
                                                .field_count = COUNT(table),                                           \
                                                .check = (check_)}

/* ---- joining ---- */
static const struct field fingerprint_fields[] = {
    ROW(LABEL, fingerprint, build, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(LABEL, fingerprint, backend, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(LABEL, fingerprint, device, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(LABEL, fingerprint, arithmetic, BOUNDS(0, LABEL_BYTES_MAX)),
};
SCHEMA("", fingerprint, fingerprint_fields, NULL);

static const struct field hello_fields[] = {
    ROW(U32, message_hello, protocol, BOUNDS(0, UINT32_MAX)),
    ROW(U8, message_hello, role, BOUNDS(0, ROLE_OPERATOR)),
    ROW(LABEL, message_hello, name, BOUNDS(1, LABEL_BYTES_MAX)),
    ROW(LABEL, message_hello, host, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(U64, message_hello, incarnation, BOUNDS(1, UINT64_MAX)),
    ROW(U32, message_hello, pid, BOUNDS(0, UINT32_MAX), OPTIONAL),
    ROW(STRUCT, message_hello, fingerprint, WITHIN(fingerprint_schema), OPTIONAL),
    ROW(U32, message_hello, capacity_samples, BOUNDS(0, UINT32_MAX), OPTIONAL),
    ROW(U64, message_hello, capacity_bytes, BOUNDS(0, UINT64_MAX), OPTIONAL),
    ROW(LABEL, message_hello, endpoint, BOUNDS(0, ENDPOINT_BYTES_MAX), OPTIONAL),
    ROW(LABEL, message_hello, key, BOUNDS(0, KEY_BYTES_MAX), OPTIONAL),
};
SCHEMA("hello", message_hello, hello_fields, NULL);

static const struct field model_file_fields[] = {
    ROW(LABEL, model_file, name, BOUNDS(1, LABEL_BYTES_MAX)),
    ROW(U64, model_file, bytes, BOUNDS(0, UINT64_MAX)),
    ROW(DIGEST, model_file, digest),
};
/* The name becomes a file in the actor's cache: it must not lead out of it. */
static const char *check_model_file(const void *object) {
    const struct model_file *file = object;
    for (uint32_t i = 0; i < file->name.bytes; i++) {
        if (file->name.data[i] == '/')
            return "name: a path where a file name is due";
    }
    return file->name.data[0] == '.' ? "name: begins with a dot" : NULL;
}
SCHEMA("", model_file, model_file_fields, check_model_file);

static const struct field welcome_fields[] = {
    ROW(U32, message_welcome, protocol, BOUNDS(0, UINT32_MAX)),
    ROW(LABEL, message_welcome, run, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(U64, message_welcome, run_id, BOUNDS(0, UINT64_MAX)),
    ROW(DIGEST, message_welcome, config),
    ROW(U64, message_welcome, incarnation, BOUNDS(1, UINT64_MAX)),
    ROW(U32, message_welcome, heartbeat_ms, BOUNDS(1, 3600000)),
    ROW(LABEL, message_welcome, weights, BOUNDS(0, ENDPOINT_BYTES_MAX)),
    ROW(U8, message_welcome, same_class, BOUNDS(0, 1)),
    ROW(I32, message_welcome, valid_vocab, BOUNDS(0, INT32_MAX)),
    ROW(I32, message_welcome, positions_max, BOUNDS(0, INT32_MAX)),
    ROW(ARRAY, message_welcome, files, COUNTED(message_welcome, file_count, 0, FILES_MAX), WITHIN(model_file_schema)),
};
SCHEMA("welcome", message_welcome, welcome_fields, NULL);

static const struct field refuse_fields[] = {
    ROW(LABEL, message_refuse, reason, BOUNDS(0, REASON_BYTES_MAX)),
    ROW(U8, message_refuse, again, BOUNDS(0, 1)),
};
SCHEMA("refuse", message_refuse, refuse_fields, NULL);

static const struct field worker_entry_fields[] = {
    ROW(LABEL, worker_entry, name, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(LABEL, worker_entry, endpoint, BOUNDS(1, ENDPOINT_BYTES_MAX)),
    ROW(LABEL, worker_entry, host, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(LABEL, worker_entry, key, BOUNDS(0, KEY_BYTES_MAX)),
    ROW(U64, worker_entry, incarnation, BOUNDS(1, UINT64_MAX)),
};
SCHEMA("", worker_entry, worker_entry_fields, NULL);

static const struct field workers_fields[] = {
    ROW(ARRAY, message_workers, workers, COUNTED(message_workers, worker_count, 0, WORKERS_MAX),
        WITHIN(worker_entry_schema)),
};
SCHEMA("workers", message_workers, workers_fields, NULL);

/* ---- liveness ---- */
static const struct field lease_progress_fields[] = {
    ROW(U64, lease_progress, lease, BOUNDS(1, UINT64_MAX)),
    ROW(U64, lease_progress, tokens_done, BOUNDS(0, UINT64_MAX)),
    ROW(U8, lease_progress, state, BOUNDS(0, LEASE_DONE)),
};
SCHEMA("", lease_progress, lease_progress_fields, NULL);

static const struct field counter_fields[] = {
    ROW(LABEL, counter, name, BOUNDS(1, LABEL_BYTES_MAX)),
    ROW(F64, counter, value),
};
SCHEMA("", counter, counter_fields, NULL);

static const struct field heartbeat_fields[] = {
    ROW(U64, message_heartbeat, incarnation, BOUNDS(1, UINT64_MAX)),
    ROW(U64, message_heartbeat, last_lease, BOUNDS(0, UINT64_MAX), OPTIONAL),
    ROW(ARRAY, message_heartbeat, held, COUNTED(message_heartbeat, held_count, 0, HELD_MAX),
        WITHIN(lease_progress_schema), OPTIONAL),
    ROW(U64, message_heartbeat, progress, BOUNDS(0, UINT64_MAX), OPTIONAL),
    ROW(DIGEST, message_heartbeat, weights, OPTIONAL),
    ROW(DIGEST, message_heartbeat, canary, OPTIONAL),
    ROW(ARRAY, message_heartbeat, counters, COUNTED(message_heartbeat, counter_count, 0, COUNTERS_MAX),
        WITHIN(counter_schema), OPTIONAL),
    ROW(LABEL, message_heartbeat, state, BOUNDS(0, LABEL_BYTES_MAX), OPTIONAL),
};
SCHEMA("heartbeat", message_heartbeat, heartbeat_fields, NULL);

/* ---- work ---- */
static const struct field work_key_fields[] = {
    ROW(U64, work_key, run_id, BOUNDS(0, UINT64_MAX)),
    ROW(U8, work_key, stream, BOUNDS(WORK_TRAIN, WORK_GENERATE)),
    ROW(U32, work_key, step, BOUNDS(0, UINT32_MAX)),
    ROW(U32, work_key, slot, BOUNDS(0, UINT32_MAX)),
};
SCHEMA("", work_key, work_key_fields, NULL);

static const struct field grading_fields[] = {
    ROW(LABEL, grading, question_id, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(TEXT, grading, question, BOUNDS(0, QUESTION_BYTES_MAX)),
    ROW(LABEL, grading, set, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(LABEL, grading, class_label, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(TEXTS, grading, aliases, COUNTED(grading, alias_count, 0, ALIASES_MAX), .text_most = QUESTION_BYTES_MAX),
    ROW(U8, grading, answerable, BOUNDS(0, 1)),
    ROW(LABEL, grading, rule, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(U32, grading, step, BOUNDS(0, UINT32_MAX)),
    ROW(I32, grading, known_k, BOUNDS((uint64_t)-1, INT32_MAX)),
    ROW(U32, grading, anchor_k, BOUNDS(0, UINT32_MAX)),
    ROW(U32, grading, switch_step, BOUNDS(0, UINT32_MAX)),
    ROW(F32, grading, threshold_t),
};
static const char *check_grading(const void *object) {
    const struct grading *grading = object;
    uint64_t bytes = grading->question.bytes;
    for (uint32_t i = 0; i < grading->alias_count; i++)
        bytes += grading->aliases[i].bytes;
    return bytes > GRADING_BYTES_MAX ? "question and aliases are longer than GRADING_BYTES_MAX" : NULL;
}
SCHEMA("", grading, grading_fields, check_grading);

static const struct field lease_fields[] = {
    ROW(U64, message_lease, lease, BOUNDS(1, UINT64_MAX)),
    ROW(STRUCT, message_lease, key, WITHIN(work_key_schema)),
    ROW(U32, message_lease, attempt, BOUNDS(0, UINT32_MAX)),
    ROW(U32, message_lease, deadline_ms, BOUNDS(1, UINT32_MAX)),
    ROW(U32, message_lease, priority, BOUNDS(0, UINT32_MAX)),
    ROW(DIGEST, message_lease, weights),
    ROW(U32, message_lease, version, BOUNDS(0, UINT32_MAX)),
    ROW(DIGEST, message_lease, config),
    ROW(IDS, message_lease, prompt, COUNTED(message_lease, prompt_count, 1, PROMPT_TOKENS_MAX)),
    ROW(U32, message_lease, shared_count, BOUNDS(0, PROMPT_TOKENS_MAX)),
    ROW(U32, message_lease, samples, BOUNDS(1, SAMPLES_MAX)),
    ROW(F32, message_lease, temperature),
    ROW(U32, message_lease, max_new_tokens, BOUNDS(1, ANSWER_TOKENS_MAX)),
    ROW(IDS, message_lease, stops, COUNTED(message_lease, stop_count, 0, STOPS_MAX)),
    ROW(U64, message_lease, seed, BOUNDS(0, UINT64_MAX)),
    ROW(STRUCT, message_lease, grading, WITHIN(grading_schema)),
};
static const char *check_lease(const void *object) {
    const struct message_lease *lease = object;
    if (lease->shared_count > lease->prompt_count)
        return "shared_count is above the prompt's count";
    if (!(lease->temperature > 0))
        return "temperature is not above 0";
    if (scored_weigh(lease) > FRAME_BYTES_MAX)
        return "samples x max_new_tokens can weigh more than FRAME_BYTES_MAX";
    return NULL;
}
SCHEMA("lease", message_lease, lease_fields, check_lease);

static const struct field give_back_fields[] = {
    ROW(U64S, message_give_back, leases, COUNTED(message_give_back, lease_count, 0, HELD_MAX)),
    ROW(LABEL, message_give_back, reason, BOUNDS(0, REASON_BYTES_MAX)),
    ROW(U8, message_give_back, fault, BOUNDS(0, 1)),
};
SCHEMA("give_back", message_give_back, give_back_fields, NULL);

static const struct field revoke_fields[] = {
    ROW(U64S, message_revoke, leases, COUNTED(message_revoke, lease_count, 0, HELD_MAX)),
};
SCHEMA("revoke", message_revoke, revoke_fields, NULL);

static const struct field answer_sample_fields[] = {
    ROW(IDS, answer_sample, ids, COUNTED(answer_sample, count, 1, ANSWER_TOKENS_MAX)),
    ROW(F32S, answer_sample, logprobs, COUNTED(answer_sample, count, 1, ANSWER_TOKENS_MAX)),
    ROW(U8, answer_sample, finish, BOUNDS(0, FINISH_LENGTH)),
    ROW(TEXT, answer_sample, text, BOUNDS(0, ANSWER_TEXT_BYTES_MAX(ANSWER_TOKENS_MAX))),
};
static const char *check_answer_sample(const void *object) {
    const struct answer_sample *sample = object;
    return sample->text.bytes > ANSWER_TEXT_BYTES_MAX(sample->count) ? "text is longer than its tokens allow" : NULL;
}
SCHEMA("", answer_sample, answer_sample_fields, check_answer_sample);

static const struct field group_fields[] = {
    ROW(U64, message_group, lease, BOUNDS(1, UINT64_MAX)),
    ROW(STRUCT, message_group, key, WITHIN(work_key_schema)),
    ROW(U32, message_group, attempt, BOUNDS(0, UINT32_MAX)),
    ROW(DIGEST, message_group, weights),
    ROW(DIGEST, message_group, config),
    ROW(DIGEST, message_group, canary, OPTIONAL),
    ROW(U64, message_group, actor, BOUNDS(1, UINT64_MAX)),
    ROW(LABEL, message_group, actor_name, BOUNDS(0, LABEL_BYTES_MAX)),
    ROW(U8, message_group, same_class, BOUNDS(0, 1)),
    ROW(ARRAY, message_group, samples, COUNTED(message_group, sample_count, 1, SAMPLES_MAX),
        WITHIN(answer_sample_schema)),
    ROW(U32, message_group, generation_ms, BOUNDS(0, UINT32_MAX)),
    ROW(STRUCT, message_group, grading, WITHIN(grading_schema)),
};
SCHEMA("group", message_group, group_fields, NULL);

static const struct field sample_score_fields[] = {
    ROW(U8, sample_score, verdict, BOUNDS(0, VERDICT_COUNT - 1)),
    ROW(F32, sample_score, reward, .nan_allowed = true),
    ROW(U32, sample_score, final_start, BOUNDS(0, UINT32_MAX), OPTIONAL),
    ROW(U32, sample_score, final_bytes, BOUNDS(0, UINT32_MAX), OPTIONAL),
};
SCHEMA("", sample_score, sample_score_fields, NULL);

static const struct field scored_fields[] = {
    ROW(STRUCT, message_scored, group, WITHIN(message_group_schema)),
    ROW(ARRAY, message_scored, scores, COUNTED(message_scored, score_count, 1, SAMPLES_MAX),
        WITHIN(sample_score_schema)),
    ROW(U64, message_scored, worker, BOUNDS(1, UINT64_MAX)),
    ROW(LABEL, message_scored, worker_name, BOUNDS(0, LABEL_BYTES_MAX)),
};
static const char *check_scored(const void *object) {
    const struct message_scored *scored = object;
    if (scored->score_count != scored->group.sample_count)
        return "scores and samples differ in number";
    for (uint32_t i = 0; i < scored->score_count; i++) {
        const struct sample_score *score = &scored->scores[i];
        if ((uint64_t)score->final_start + score->final_bytes > scored->group.samples[i].text.bytes)
            return "a final answer lies outside its text";
    }
    return NULL;
}
SCHEMA("scored", message_scored, scored_fields, check_scored);

static const struct field answer_fields[] = {
    ROW(STRUCT, message_answer, key, WITHIN(work_key_schema)),
    ROW(U64, message_answer, lease, BOUNDS(1, UINT64_MAX)),
    ROW(U8, message_answer, outcome, BOUNDS(0, OUTCOME_NOT_WANTED)),
    ROW(LABEL, message_answer, reason, BOUNDS(0, REASON_BYTES_MAX), OPTIONAL),
};
SCHEMA("answer", message_answer, answer_fields, NULL);

/* ---- actor and reward worker ---- */
static const struct field knock_fields[] = {
    ROW(U32, message_knock, protocol, BOUNDS(0, UINT32_MAX)),
    ROW(U64, message_knock, incarnation, BOUNDS(1, UINT64_MAX)),
    ROW(LABEL, message_knock, name, BOUNDS(0, LABEL_BYTES_MAX)),
};
SCHEMA("knock", message_knock, knock_fields, NULL);

static const struct field credit_fields[] = {
    ROW(U64, message_credit, incarnation, BOUNDS(1, UINT64_MAX)),
    ROW(U64, message_credit, bytes, BOUNDS(0, UINT64_MAX)),
};
SCHEMA("credit", message_credit, credit_fields, NULL);

/* ---- weights ---- */
static const struct field manifest_fields[] = {
    ROW(U32, message_manifest, version, BOUNDS(0, UINT32_MAX)),
    ROW(DIGEST, message_manifest, weights),
    ROW(U8, message_manifest, form, BOUNDS(0, FORM_DELTA)),
    ROW(DIGEST, message_manifest, base),
    ROW(U64, message_manifest, elements, BOUNDS(0, UINT64_MAX)),
    ROW(U8, message_manifest, dtype, BOUNDS(0, UINT8_MAX)),
    ROW(U64, message_manifest, payload_bytes, BOUNDS(0, UINT64_MAX)),
    ROW(U32, message_manifest, chunk_bytes, BOUNDS(1, CHUNK_BYTES_MAX)),
    ROW(U8, message_manifest, current, BOUNDS(0, 1)),
};
SCHEMA("manifest", message_manifest, manifest_fields, NULL);

static const struct field fetch_fields[] = {
    ROW(U8, message_fetch, kind, BOUNDS(0, FETCH_FILE)),
    ROW(DIGEST, message_fetch, object),
    ROW(DIGEST, message_fetch, base),
    ROW(U32, message_fetch, first, BOUNDS(0, UINT32_MAX)),
    ROW(U32, message_fetch, count, BOUNDS(1, FETCH_COUNT_MAX)),
};
SCHEMA("fetch", message_fetch, fetch_fields, NULL);

static const struct field chunk_fields[] = {
    ROW(U8, message_chunk, kind, BOUNDS(0, FETCH_FILE)),
    ROW(DIGEST, message_chunk, object),
    ROW(U32, message_chunk, index, BOUNDS(0, UINT32_MAX)),
    ROW(U64, message_chunk, total_bytes, BOUNDS(0, UINT64_MAX)),
    ROW(U64, message_chunk, hash, BOUNDS(0, UINT64_MAX)),
    ROW(BYTES, message_chunk, data, COUNTED(message_chunk, bytes, 0, CHUNK_BYTES_MAX)),
};
SCHEMA("chunk", message_chunk, chunk_fields, NULL);

static const struct field gone_fields[] = {
    ROW(U8, message_gone, kind, BOUNDS(0, FETCH_FILE)),
    ROW(DIGEST, message_gone, object),
    ROW(LABEL, message_gone, reason, BOUNDS(0, REASON_BYTES_MAX)),
};
SCHEMA("gone", message_gone, gone_fields, NULL);

/* ---- operator ---- */
static const struct field status_request_fields[] = {
    ROW(U8, message_status_request, what, BOUNDS(0, 0), OPTIONAL),
};
SCHEMA("status_request", message_status_request, status_request_fields, NULL);

static const struct field status_reply_fields[] = {
    ROW(TEXT, message_status_reply, json, BOUNDS(0, STATUS_BYTES_MAX)),
};
SCHEMA("status_reply", message_status_reply, status_reply_fields, NULL);

static const struct field bye_fields[] = {
    ROW(LABEL, message_bye, reason, BOUNDS(0, REASON_BYTES_MAX)),
};
SCHEMA("bye", message_bye, bye_fields, NULL);

const struct schema *const message_schemas[MESSAGE_TYPE_COUNT] = {
    [MESSAGE_HELLO] = &message_hello_schema,
    [MESSAGE_WELCOME] = &message_welcome_schema,
    [MESSAGE_REFUSE] = &message_refuse_schema,
    [MESSAGE_WORKERS] = &message_workers_schema,
    [MESSAGE_HEARTBEAT] = &message_heartbeat_schema,
    [MESSAGE_LEASE] = &message_lease_schema,
    [MESSAGE_GIVE_BACK] = &message_give_back_schema,
    [MESSAGE_REVOKE] = &message_revoke_schema,
    [MESSAGE_MANIFEST] = &message_manifest_schema,
    [MESSAGE_KNOCK] = &message_knock_schema,
    [MESSAGE_CREDIT] = &message_credit_schema,
    [MESSAGE_GROUP] = &message_group_schema,
    [MESSAGE_SCORED] = &message_scored_schema,
    [MESSAGE_ANSWER] = &message_answer_schema,
    [MESSAGE_FETCH] = &message_fetch_schema,
    [MESSAGE_CHUNK] = &message_chunk_schema,
    [MESSAGE_GONE] = &message_gone_schema,
    [MESSAGE_STATUS_REQUEST] = &message_status_request_schema,
    [MESSAGE_STATUS_REPLY] = &message_status_reply_schema,
    [MESSAGE_BYE] = &message_bye_schema,
};

const size_t message_body_offset = offsetof(struct message, hello);
