/* candor generate: answers to one question, in this process, without sockets. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/generator.h"
#include "common/base/json.h"
#include "common/model/chat.h"
#include "deploy/cli/commands.h"

#define MOST_SAMPLES 256
#define ROWS_MAX 512
#define TOKENS_USUAL 256

struct generate_arguments {
    const char *model, *system, *device;
    int64_t samples, tokens, seed, top_k;
    double temperature, top_p;
    bool json;
};

static void print_group(const struct tokenizer *tokenizer, const struct generated_group *group) {
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct generated_sample *sample = &group->samples[i];
        struct buf text = {0};
        double sum = 0;
        for (uint32_t t = 0; t < sample->count; t++)
            sum += (double)sample->logprobs[t];
        if (tokenizer_decode(tokenizer, sample->ids, sample->count, true, &text) == STATUS_OK && buf_ok(&text))
            printf("[%u: %u tokens, log-probability %.3f%s]\n%s\n", i, sample->count, sum,
                   sample->stopped ? "" : ", cut at the limit", text.bytes > 0 ? text.data : "");
        buf_deinit(&text);
    }
}

/* One object a line: what the tokens were, and how likely each was. */
static void print_json(const struct tokenizer *tokenizer, const struct token_list *prompt,
                       const struct generated_group *group) {
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct generated_sample *sample = &group->samples[i];
        struct buf text = {0}, line = {0};
        if (tokenizer_decode(tokenizer, sample->ids, sample->count, true, &text) != STATUS_OK)
            text.failed = true;
        buf_printf(&line, "{\"sample\":%u,\"stopped\":%s,\"text\":", i, sample->stopped ? "true" : "false");
        json_put_string(&line, text.data != NULL ? text.data : "", text.bytes);
        for (size_t t = 0; t < prompt->count; t++)
            buf_printf(&line, "%s%d", t > 0 ? "," : ",\"prompt\":[", prompt->ids[t]);
        for (uint32_t t = 0; t < sample->count; t++)
            buf_printf(&line, "%s%d", t > 0 ? "," : "],\"ids\":[", sample->ids[t]);
        for (uint32_t t = 0; t < sample->count; t++) {
            buf_puts(&line, t > 0 ? "," : "],\"logprobs\":[");
            json_put_float(&line, sample->logprobs[t]);
        }
        buf_puts(&line, "]}");
        if (buf_ok(&line) && buf_ok(&text))
            printf("%s\n", line.data);
        buf_deinit(&text);
        buf_deinit(&line);
    }
}

static enum status run_generator(struct model *model, const struct tokenizer *tokenizer,
                                 const struct token_list *prompt, size_t shared,
                                 const struct generate_arguments *arguments) {
    int64_t length = (int64_t)prompt->count + arguments->tokens;
    const struct generator_limits limits = {.in_flight = (int32_t)arguments->samples,
                                            .rows_max = ROWS_MAX,
                                            .kv_tokens = (arguments->samples + 2) * (length + 2 * KV_PAGE_TOKENS),
                                            .groups_max = 1};
    struct generator *generator = NULL;
    TRY(generator_create(model, &limits, &generator));
    size_t stop_count;
    const int32_t *stops = tokenizer_eos(tokenizer, &stop_count);
    const struct generation_request request = {.id = 1,
                                               .prompt = prompt->ids,
                                               .prompt_count = (uint32_t)prompt->count,
                                               .shared_count = (uint32_t)shared,
                                               .samples = (uint32_t)arguments->samples,
                                               .temperature = (float)arguments->temperature,
                                               .top_k = (int32_t)arguments->top_k,
                                               .top_p = (float)arguments->top_p,
                                               .max_new_tokens = (uint32_t)arguments->tokens,
                                               .stops = stops,
                                               .stop_count = (uint32_t)stop_count,
                                               .key = {.seed = (uint64_t)arguments->seed, .stream = RNG_GENERATE}};
    enum status status = generator_submit(generator, &request);
    const struct generated_group *group = NULL;
    while (status == STATUS_OK && (group = generator_finished(generator)) == NULL) {
        bool busy;
        status = command_interrupted() ? fail(STATUS_INTERRUPTED, "stopped") : generator_step(generator, &busy);
    }
    if (status == STATUS_OK && arguments->json)
        print_json(tokenizer, prompt, group);
    else if (status == STATUS_OK)
        print_group(tokenizer, group);
    generator_destroy(&generator);
    return status;
}

/* 0 becomes what the model has room for behind the prompt, at most TOKENS_USUAL. */
static enum status choose_tokens(const char *model, size_t prompt_tokens, int64_t *tokens) {
    struct model_config config;
    TRY(model_config_read(model, &config));
    int64_t room = config.max_positions - (int64_t)prompt_tokens;
    if (room < 1 || *tokens > room)
        return fail(STATUS_LIMIT, "%s: a prompt of %zu and an answer of %lld tokens: the model takes %d together",
                    model, prompt_tokens, (long long)(*tokens > 0 ? *tokens : 1), config.max_positions);
    if (*tokens == 0)
        *tokens = room < TOKENS_USUAL ? room : TOKENS_USUAL;
    return STATUS_OK;
}

static enum status generate(struct generate_arguments *arguments, const char *question) {
    struct tokenizer *tokenizer = NULL;
    struct device *device = NULL;
    struct model *model = NULL;
    struct token_list prompt = {0};
    struct chat chat;
    size_t shared = 0;
    enum status status;
    TRY_GOTO(tokenizer_open(arguments->model, &tokenizer), done);
    TRY_GOTO(chat_open(arguments->model, tokenizer, &chat), done);
    status = chat_encode(&chat, arguments->system, question, &prompt, &shared);
    if (status != STATUS_OK) {
        fail_context(status, "--system and QUESTION");
        goto done;
    }
    TRY_GOTO(choose_tokens(arguments->model, prompt.count, &arguments->tokens), done);
    TRY_GOTO(device_open_for("--device", arguments->device, 0, &device), done);
    TRY_GOTO(model_load(device, arguments->model, DTYPE_BF16, (int32_t)(prompt.count + (size_t)arguments->tokens),
                        tokenizer_vocab_size(tokenizer), &model),
             done);
    status = run_generator(model, tokenizer, &prompt, shared, arguments);
done:
    model_destroy(&model);
    device_close(&device);
    token_list_deinit(&prompt);
    tokenizer_close(&tokenizer);
    return status;
}

enum status command_generate(int argc, char **argv) {
    struct generate_arguments arguments = {.device = "auto", .samples = 1, .seed = 1, .temperature = 1, .top_p = 1};
    struct arg_list question = {.count = 0};
    const struct arg args[] = {
        {"model", ARG_TEXT, &arguments.model, "DIR", "Hugging Face directory"},
        {"system", ARG_TEXT, &arguments.system, "TEXT", "system prompt (the model's default)"},
        {"n", ARG_INT, &arguments.samples, "N", "answers (1)"},
        {"max-tokens", ARG_INT, &arguments.tokens, "N", "longest answer (0: 256, or what the model has room for)"},
        {"temperature", ARG_REAL, &arguments.temperature, "T", "1; 0: the likeliest token each time"},
        {"top-k", ARG_INT, &arguments.top_k, "K", "only the K likeliest tokens (0: all)"},
        {"top-p", ARG_REAL, &arguments.top_p, "P", "only the likeliest tokens of this mass (1: all)"},
        {"seed", ARG_INT, &arguments.seed, "N", "same seed, same answers (1)"},
        {"json", ARG_FLAG, &arguments.json, "", "one object an answer: text, token ids, log-probabilities"},
        {"device", ARG_TEXT, &arguments.device, "NAME", "auto, cpu or cuda:N"},
    };
    const size_t count = sizeof args / sizeof args[0];
    if (args_want_help(argc, argv)) {
        args_help("candor generate --model DIR [options] QUESTION", "Answers to one question.", args, count);
        return STATUS_OK;
    }
    TRY(args_parse(argc, argv, args, count, &question));
    if (arguments.model == NULL || question.count != 1)
        return fail(STATUS_USAGE, "--model DIR and one QUESTION are needed");
    if (arguments.samples < 1 || arguments.samples > MOST_SAMPLES || arguments.tokens < 0 || arguments.tokens > 32768)
        return fail(STATUS_USAGE, "--n: 1 to %d; --max-tokens: 0 to 32768", MOST_SAMPLES);
    if (!(arguments.temperature >= 0 && arguments.temperature <= 10) ||
        !(arguments.top_p > 0 && arguments.top_p <= 1) || arguments.top_k < 0 || arguments.top_k > INT32_MAX ||
        arguments.seed < 0)
        return fail(STATUS_USAGE, "--temperature: 0 to 10; --top-p: above 0, to 1; --top-k and --seed: not negative");
    return generate(&arguments, question.items[0]);
}
