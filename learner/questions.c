#include "learner/questions.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/eval/outcome.h"
#include "learner/support.h"

#define PATHS_MAX 256

struct path_list {
    char *paths[PATHS_MAX];
    size_t count;
};

static enum status add_path(void *context, const char *path) {
    struct path_list *list = context;
    if (list->count == PATHS_MAX)
        return fail(STATUS_LIMIT, "more than %d question files", PATHS_MAX);
    list->paths[list->count] = strdup(path);
    if (!list->paths[list->count])
        return fail(STATUS_NO_MEMORY, "questions: no memory");
    list->count++;
    return STATUS_OK;
}

static enum status load_set(const char *paths, const struct question_events *events, struct question_set *out_set) {
    struct path_list list = {0};
    enum status status = support_each_path(paths, add_path, &list);
    if (status == STATUS_OK)
        status = question_set_load((const char *const *)list.paths, list.count, events, out_set, NULL);
    for (size_t i = 0; i < list.count; i++)
        free(list.paths[i]);
    return status;
}

static enum status encode_prompts(struct questions *q, const char *system, const struct chat *chat,
                                  uint32_t prompt_tokens_max) {
    uint64_t digest = 0;
    q->shared_count = UINT32_MAX;
    for (uint32_t i = 0; i < q->set.count; i++) {
        const struct question *question = &q->set.questions[i];
        size_t system_count;
        q->starts[i] = q->ids.count;
        enum status status = chat_encode(chat, system, question->text, &q->ids, &system_count);
        if (status != STATUS_OK)
            return fail_context(status, "question %s", question->id);
        uint64_t tokens = q->ids.count - q->starts[i];
        if (tokens > prompt_tokens_max)
            return fail(STATUS_LIMIT,
                        "question %s: a prompt of %llu tokens; right would be at most %u (prompt.max_tokens)",
                        question->id, (unsigned long long)tokens, prompt_tokens_max);
        q->longest = tokens > q->longest ? (uint32_t)tokens : q->longest;
        q->shared_count = system_count < q->shared_count ? (uint32_t)system_count : q->shared_count;
        uint64_t chained[] = {digest, question->hash};
        digest = hash64(chained, sizeof chained);
        q->known_k[i] = -1;
    }
    q->starts[q->set.count] = q->ids.count;
    uint64_t chained[] = {digest, hash64(q->ids.ids, q->ids.count * sizeof *q->ids.ids)};
    q->digest = hash64(chained, sizeof chained);
    return STATUS_OK;
}

static struct text text_of(const char *text) {
    return (struct text){.data = text, .bytes = (uint32_t)strlen(text)};
}

static enum status index_aliases(struct questions *q) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < q->set.count; i++)
        total += q->set.questions[i].alias_count;
    q->aliases = calloc(total ? total : 1, sizeof *q->aliases);
    if (!q->aliases)
        return fail(STATUS_NO_MEMORY, "questions: no memory for %llu aliases", (unsigned long long)total);
    uint64_t at = 0;
    for (uint32_t i = 0; i < q->set.count; i++) {
        q->alias_starts[i] = at;
        for (uint32_t a = 0; a < q->set.questions[i].alias_count; a++)
            q->aliases[at++] = text_of(q->set.questions[i].aliases[a]);
    }
    q->alias_starts[q->set.count] = at;
    return STATUS_OK;
}

enum status questions_load(const char *paths, uint64_t limit, const char *system, const struct chat *chat,
                           uint32_t prompt_tokens_max, const struct question_events *events,
                           struct questions *out_questions) {
    struct questions q = {0};
    TRY(load_set(paths, events, &q.set));
    question_set_limit(&q.set, limit);
    enum status status = STATUS_OK;
    q.starts = calloc((size_t)q.set.count + 1, sizeof *q.starts);
    q.alias_starts = calloc((size_t)q.set.count + 1, sizeof *q.alias_starts);
    q.known_k = calloc(q.set.count, sizeof *q.known_k);
    if (!q.starts || !q.alias_starts || !q.known_k)
        status = fail(STATUS_NO_MEMORY, "questions: no memory for %u prompts", q.set.count);
    if (status == STATUS_OK)
        status = encode_prompts(&q, system, chat, prompt_tokens_max);
    if (status == STATUS_OK)
        status = index_aliases(&q);
    if (status != STATUS_OK) {
        questions_deinit(&q);
        return status;
    }
    *out_questions = q;
    return STATUS_OK;
}

void questions_deinit(struct questions *q) {
    question_set_deinit(&q->set);
    token_list_deinit(&q->ids);
    free(q->starts);
    free(q->aliases);
    free(q->alias_starts);
    free(q->known_k);
    *q = (struct questions){0};
}

enum status questions_read_knowledge(struct questions *q, const char *path) {
    struct outcome_file *file;
    TRY(outcome_file_read(path, &file));
    for (uint32_t i = 0; i < q->set.count; i++) {
        const struct outcome *outcome = outcome_find(file, q->set.questions[i].set, q->set.questions[i].id);
        if (outcome)
            q->known_k[i] = (int32_t)outcome->counts[VERDICT_CORRECT];
    }
    uint64_t chained[] = {q->digest, hash64(q->known_k, q->set.count * sizeof *q->known_k)};
    q->digest = hash64(chained, sizeof chained);
    outcome_file_destroy(&file);
    return STATUS_OK;
}

const int32_t *questions_prompt(const struct questions *q, uint32_t index, uint32_t *out_count) {
    *out_count = (uint32_t)(q->starts[index + 1] - q->starts[index]);
    return q->ids.ids + q->starts[index];
}

enum status questions_add_outcome(const struct questions *questions, uint32_t index,
                                  const struct message_scored *scored, const struct model_config *model,
                                  struct outcome_file *file) {
    const struct question *question = &questions->set.questions[index];
    uint32_t counts[VERDICT_COUNT] = {0}, kept = 0, prompt_tokens;
    uint64_t answer_tokens = 0;
    const char *texts[OUTCOME_ANSWERS_MAX];
    for (uint32_t i = 0; i < scored->score_count; i++) {
        ASSERT(scored->scores[i].verdict < VERDICT_COUNT);
        counts[scored->scores[i].verdict]++;
        answer_tokens += scored->group.samples[i].count;
        if (kept < OUTCOME_ANSWERS_MAX)
            texts[kept++] = scored->group.samples[i].text.data;
    }
    (void)questions_prompt(questions, index, &prompt_tokens);
    file->flop += model_answers_flop(model, 1, prompt_tokens, scored->score_count, answer_tokens);
    return outcome_add(file, question->id, question->set, question->label, question->split, question->text, counts,
                       texts, kept);
}

static struct grading grading_of(const struct questions *q, const struct run_config *config, uint32_t index,
                                 uint32_t step) {
    const struct question *question = &q->set.questions[index];
    return (struct grading){.question_id = text_of(question->id),
                            .question = text_of(question->text),
                            .set = text_of(question->set),
                            .class_label = text_of(question->label),
                            .aliases = q->aliases + q->alias_starts[index],
                            .alias_count = question->alias_count,
                            .answerable = question->answerable,
                            .rule = text_of(config->reward_rule),
                            .step = step,
                            .known_k = q->known_k[index],
                            .anchor_k = (uint32_t)config->reward_anchor_k,
                            .switch_step = (uint32_t)config->reward_switch_step,
                            .threshold_t = (float)config->reward_threshold_t};
}

enum status questions_slots(const struct questions *q, const struct run_config *config,
                            const struct question_work *work, const uint32_t *indices, uint32_t count,
                            struct message_lease **out_slots) {
    struct message_lease *slots = calloc(count, sizeof *slots);
    if (!slots)
        return fail(STATUS_NO_MEMORY, "questions: no memory for %u slots", count);
    for (uint32_t s = 0; s < count; s++) {
        struct message_lease *lease = &slots[s];
        lease->key = (struct work_key){.run_id = work->run_id, .stream = work->stream, .step = work->step, .slot = s};
        lease->priority = work->priority;
        lease->weights = work->weights;
        lease->version = work->version;
        lease->config = work->config;
        lease->prompt = q->ids.ids + q->starts[indices[s]];
        lease->prompt_count = (uint32_t)(q->starts[indices[s] + 1] - q->starts[indices[s]]);
        lease->shared_count = q->shared_count;
        lease->samples = work->samples;
        lease->temperature = (float)config->sample_temperature;
        lease->max_new_tokens = (uint32_t)config->sample_max_new_tokens;
        lease->stops = (int32_t *)(uintptr_t)work->stops; /* read only by whoever copies the template */
        lease->stop_count = work->stop_count;
        lease->seed = (uint64_t)config->run_seed;
        lease->grading = grading_of(q, config, indices[s], work->step);
    }
    *out_slots = slots;
    return STATUS_OK;
}

struct hub_work questions_work(const struct question_work *work, const struct message_lease *slots, uint32_t count) {
    return (struct hub_work){.stream = work->stream,
                             .step = work->step,
                             .priority = work->priority,
                             .weights = work->weights,
                             .version = work->version,
                             .slot_count = count,
                             .slots = slots};
}
