#include "tests/support/learner/tiny.h"

#include "common/eval/outcome.h"
#include "learner/questions.h"

struct fixture {
    struct tiny tiny;
    struct run_config *config;
    struct tokenizer *tokenizer;
    struct chat chat;
    struct questions questions;
};

static void begin(struct fixture *f) {
    tiny_open(&f->tiny);
    f->config = tiny_config(&f->tiny, (const char *const[]){"prompt.system=Answer", "reward.anchor_k=3", NULL});
    ASSERT_OK(tokenizer_open(f->tiny.world, &f->tokenizer));
    ASSERT_OK(chat_open(f->tiny.world, f->tokenizer, &f->chat));
    ASSERT_OK(questions_load(f->config->data_train, 0, f->config->prompt_system, &f->chat, 64, NULL, &f->questions));
}

static void end(struct fixture *f) {
    questions_deinit(&f->questions);
    tokenizer_close(&f->tokenizer);
    free(f->config);
    tiny_close(&f->tiny);
}

static void leases_carry_prompt_golds_and_rules(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(f.questions.set.count, 18);
    int32_t stop = 176;
    struct question_work work = {.stream = WORK_TRAIN,
                                 .step = 4,
                                 .priority = 8,
                                 .version = 3,
                                 .weights = {1, 2},
                                 .samples = 20,
                                 .run_id = 9,
                                 .config = {3, 4},
                                 .stops = &stop,
                                 .stop_count = 1};
    uint32_t indices[] = {5, 0, 5};
    struct message_lease *slots;
    ASSERT_OK(questions_slots(&f.questions, f.config, &work, indices, 3, &slots));
    for (uint32_t s = 0; s < 3; s++) {
        const struct question *question = &f.questions.set.questions[indices[s]];
        struct token_list ids = {0};
        ASSERT_OK(chat_encode(&f.chat, "Answer", question->text, &ids, NULL));
        assert_int_equal(slots[s].prompt_count, ids.count);
        assert_memory_equal(slots[s].prompt, ids.ids, ids.count * sizeof *ids.ids);
        token_list_deinit(&ids);
        assert_int_equal(slots[s].key.slot, s);
        assert_int_equal(slots[s].key.step, 4);
        assert_string_equal(slots[s].grading.question.data, question->text);
        assert_int_equal(slots[s].grading.alias_count, question->alias_count);
        assert_string_equal(slots[s].grading.aliases[0].data, question->aliases[0]);
        assert_string_equal(slots[s].grading.rule.data, "both");
        assert_true(slots[s].grading.known_k == -1 && slots[s].grading.anchor_k == 3 && slots[s].grading.step == 4);
        assert_true(slots[s].samples == 20 && slots[s].version == 3 && slots[s].stops[0] == 176);
        assert_true(slots[s].shared_count > 0 && slots[s].shared_count < slots[s].prompt_count);
    }
    free(slots);
    end(&f);
}

/* Another tokenizer or chat template would make others of the same text; so does another system prompt. */
static void the_digest_tells_other_prompts(void **state) {
    (void)state;
    struct fixture f;
    struct questions same, other;
    begin(&f);
    ASSERT_OK(questions_load(f.config->data_train, 0, "Answer", &f.chat, 64, NULL, &same));
    ASSERT_OK(questions_load(f.config->data_train, 0, "Question", &f.chat, 64, NULL, &other));
    assert_true(same.digest == f.questions.digest && other.digest != f.questions.digest);
    questions_deinit(&same);
    questions_deinit(&other);
    end(&f);
}

static void the_knowledge_map_fills_known_k(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct outcome_file *file;
    uint32_t counts[VERDICT_COUNT] = {[VERDICT_CORRECT] = 11, [VERDICT_WRONG] = 5};
    char path[PATH_BYTES];
    ASSERT_OK(outcome_file_create("knowledge", 16, 1, "Guess", &file));
    ASSERT_OK(outcome_add(file, f.questions.set.questions[7].id, "world", "", "train", "?", counts, NULL, 0));
    ASSERT_OK(fs_join(path, f.tiny.directory, "knowledge.jsonl"));
    ASSERT_OK(outcome_file_write(file, path));
    outcome_file_destroy(&file);
    uint64_t without = f.questions.digest;
    ASSERT_OK(questions_read_knowledge(&f.questions, path));
    assert_true(f.questions.digest != without); /* the anchored rule trains on it */
    assert_int_equal(f.questions.known_k[7], 11);
    assert_int_equal(f.questions.known_k[6], -1);
    end(&f);
}

static void a_prompt_that_is_too_long_is_named(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct questions other;
    ASSERT_FAILS(STATUS_LIMIT,
                 questions_load(f.config->data_train, 0, "Answer", &f.chat, f.questions.longest - 1, NULL, &other));
    assert_non_null(strstr(status_message(), "prompt.max_tokens"));
    ASSERT_FAILS(STATUS_NOT_FOUND, questions_load("/nowhere/at-all.jsonl", 0, "Answer", &f.chat, 64, NULL, &other));
    end(&f);
}

static void the_digest_follows_content_and_order(void **state) {
    (void)state;
    struct fixture f;
    begin(&f);
    struct questions same, fewer;
    ASSERT_OK(questions_load(f.config->data_train, 0, "Answer", &f.chat, 64, NULL, &same));
    ASSERT_OK(questions_load(f.config->data_train, 10, "Answer", &f.chat, 64, NULL, &fewer));
    assert_true(same.digest == f.questions.digest && fewer.digest != same.digest && fewer.set.count == 10);
    questions_deinit(&same);
    questions_deinit(&fewer);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leases_carry_prompt_golds_and_rules),
        cmocka_unit_test(the_digest_tells_other_prompts),
        cmocka_unit_test(the_knowledge_map_fills_known_k),
        cmocka_unit_test(a_prompt_that_is_too_long_is_named),
        cmocka_unit_test(the_digest_follows_content_and_order),
    };
    return cmocka_run_group_tests_name("questions", tests, NULL, NULL);
}
