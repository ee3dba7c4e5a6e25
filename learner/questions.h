/* Questions ready to be asked: prompts rendered and tokenised once, and lease templates made of them. Shared by the learner and
 * by drivers such as `candor eval`, which ask without training. */
#ifndef CANDOR_LEARNER_QUESTIONS_H
#define CANDOR_LEARNER_QUESTIONS_H

#include <stdint.h>

#include "common/base/run_config.h"
#include "common/data/question.h"
#include "common/eval/outcome.h"
#include "common/hub/hub.h"
#include "common/model/chat.h"
#include "common/model/config.h"
#include "proto/messages.h"

struct questions {
    struct question_set set;
    struct token_list ids;  /* all prompts, one after another */
    uint64_t *starts;       /* [set.count + 1] */
    struct text *aliases;   /* all aliases as message texts, one question after another */
    uint64_t *alias_starts; /* [set.count + 1] */
    int32_t *known_k;       /* [set.count]: right answers of the base model's samples, -1: no knowledge map */
    uint32_t shared_count;  /* first ids that all prompts share: the system prompt */
    uint32_t longest;       /* prompt, in tokens */
    uint64_t digest;        /* of content, prompts as tokens and knowledge, in order: a resumed run must have the same */
};

/* paths: files separated by ':'. limit: question_set_limit. system: the prompt; NULL: the chat form's default. A prompt
 * above prompt_tokens_max is STATUS_LIMIT naming its question. events may be NULL. */
enum status questions_load(const char *paths, uint64_t limit, const char *system, const struct chat *chat,
                           uint32_t prompt_tokens_max, const struct question_events *events,
                           struct questions *out_questions);
void questions_deinit(struct questions *questions);

/* Fills known_k from a knowledge map (an outcome file, common/eval/outcome.h); a question that it lacks keeps -1. */
enum status questions_read_knowledge(struct questions *questions, const char *path);

const int32_t *questions_prompt(const struct questions *questions, uint32_t index, uint32_t *out_count);

/* Adds question `index`, its answers' verdicts and their work to an outcome file. */
enum status questions_add_outcome(const struct questions *questions, uint32_t index,
                                  const struct message_scored *scored, const struct model_config *model,
                                  struct outcome_file *file);

/* One piece of work over questions: who asks what, when, and from which weights. */
struct question_work {
    uint8_t stream; /* enum work_stream */
    uint32_t step;  /* training: the step; evaluation: the version evaluated */
    uint32_t priority;
    uint32_t version;
    struct digest weights;
    uint32_t samples;
    uint64_t run_id;
    struct digest config;
    const int32_t *stops; /* [stop_count]: tokenizer_eos */
    uint32_t stop_count;
};

/* Lease templates for slots [count] asking questions indices[slot]; everything points into questions, config and work. free()
 * *out_slots after it was offered (offering copies). */
enum status questions_slots(const struct questions *questions, const struct run_config *config,
                            const struct question_work *work, const uint32_t *indices, uint32_t count,
                            struct message_lease **out_slots);
/* The work that they make up. */
struct hub_work questions_work(const struct question_work *work, const struct message_lease *slots, uint32_t count);

#endif
