#include "common/model/chat.h"

#include <string.h>

#include "common/base/fs.h"
#include "common/base/hash.h"
#include "common/base/json.h"

#define TEMPLATE_BYTES_MAX (1u << 20)

static const char *const form_names[] = {[CHAT_QWEN25] = "qwen2.5", [CHAT_QWEN2] = "qwen2", [CHAT_PLAIN] = "plain"};
static const char *const default_systems[] = {
    [CHAT_QWEN25] = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    [CHAT_QWEN2] = "You are a helpful assistant.",
    [CHAT_PLAIN] = "",
};

/* hash64 of templates as Qwen published them, white space at the end left out. For one system and one user message each
 * of them gives the form's text. */
static const struct {
    uint64_t hash;
    enum chat_form form;
} known_templates[] = {
    {0x2469C9508F79506E, CHAT_QWEN25}, /* Qwen2.5 Instruct, all sizes */
    {0xC31E98DB8C19D1D3, CHAT_QWEN2},  /* Qwen2.5 base, all sizes */
    {0xD5D943BD0BD9082F, CHAT_QWEN2},  /* Qwen2 Instruct */
    {0xC79034A9D5F0AE58, CHAT_QWEN2},  /* the same with its line feeds written as \n */
};

const char *chat_form_name(enum chat_form form) {
    return form_names[form];
}

static enum status form_by_name(const char *path, const char *name, enum chat_form *out_form) {
    for (size_t i = 0; i < sizeof form_names / sizeof *form_names; i++)
        if (strcmp(name, form_names[i]) == 0) {
            *out_form = (enum chat_form)i;
            return STATUS_OK;
        }
    return fail(STATUS_UNSUPPORTED, "%s: candor_chat_template = %s; there are qwen2.5, qwen2 and plain", path, name);
}

static enum status form_by_template(const char *path, const char *text, enum chat_form *out_form) {
    size_t bytes = strlen(text);
    while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]))
        bytes--;
    uint64_t hash = hash64(text, bytes);
    for (size_t i = 0; i < sizeof known_templates / sizeof *known_templates; i++)
        if (known_templates[i].hash == hash) {
            *out_form = known_templates[i].form;
            return STATUS_OK;
        }
    return fail(STATUS_UNSUPPORTED,
                "%s: a chat_template that is neither Qwen2's nor Qwen2.5's (hash %016llx, begins \"%.40s\"): if it "
                "gives the same "
                "text, put \"candor_chat_template\": \"qwen2.5\" or \"qwen2\" into tokenizer_config.json",
                path, (unsigned long long)hash, text);
}

/* chat_template is a string, or a list of {name, template} of which "default" counts. */
static const char *template_of(const json_t *settings) {
    const json_t *value = json_object_get(settings, "chat_template");
    size_t i;
    json_t *entry;
    if (json_is_string(value))
        return json_string_value(value);
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(entry, "template"));
    }
    return NULL;
}

static enum status find_form(const char *directory, const json_t *settings, enum chat_form *out_form) {
    char jinja[PATH_BYTES], config[PATH_BYTES];
    TRY(fs_join(jinja, directory, "chat_template.jinja"));
    TRY(fs_join(config, directory, "tokenizer_config.json"));
    const char *name = json_string_value(json_object_get(settings, "candor_chat_template"));
    if (name)
        return form_by_name(config, name, out_form);
    if (fs_exists(jinja)) {
        struct buf text = {0};
        enum status status = fs_read(jinja, TEMPLATE_BYTES_MAX, &text);
        if (status == STATUS_OK)
            status = form_by_template(jinja, text.data, out_form);
        buf_deinit(&text);
        return status;
    }
    const char *text = template_of(settings);
    if (text)
        return form_by_template(config, text, out_form);
    *out_form = CHAT_QWEN25;
    return STATUS_OK;
}

static enum status find_controls(const char *directory, struct chat *chat) {
    if (chat->form == CHAT_PLAIN) {
        size_t count;
        chat->turn_start = -1;
        chat->turn_end = tokenizer_eos(chat->tokenizer, &count)[0];
        return STATUS_OK;
    }
    if (!tokenizer_find(chat->tokenizer, "<|im_start|>", &chat->turn_start) ||
        !tokenizer_find(chat->tokenizer, "<|im_end|>", &chat->turn_end))
        return fail(STATUS_FORMAT,
                    "%s: the form %s needs the tokens <|im_start|> and <|im_end|>, and the vocabulary lacks them",
                    directory, form_names[chat->form]);
    return STATUS_OK;
}

enum status chat_open(const char *directory, const struct tokenizer *tokenizer, struct chat *out_chat) {
    struct chat chat = {.tokenizer = tokenizer};
    char config[PATH_BYTES];
    json_t *settings = NULL;
    TRY(fs_join(config, directory, "tokenizer_config.json"));
    if (fs_exists(config))
        TRY(json_read_file(config, TEMPLATE_BYTES_MAX, &settings));
    enum status status = find_form(directory, settings, &chat.form);
    json_decref(settings);
    TRY(status);
    TRY(find_controls(directory, &chat));
    *out_chat = chat;
    return STATUS_OK;
}

enum status chat_render(const struct chat *chat, const char *system, const char *user, struct buf *out_text) {
    if (!system)
        system = default_systems[chat->form];
    if (chat->form == CHAT_PLAIN)
        buf_printf(out_text, "%s%s%s", system, *system ? " " : "", user);
    else
        buf_printf(out_text,
                   "<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n", system,
                   user);
    return buf_ok(out_text) ? STATUS_OK : fail(STATUS_NO_MEMORY, "chat: out of memory for a prompt");
}

/* <|im_start|>ROLE\nTEXT<|im_end|>\n: role and text are encoded as one, as Hugging Face does. */
static enum status encode_turn(const struct chat *chat, const char *role, const char *text,
                               struct token_list *out_ids) {
    struct buf turn = {0};
    buf_puts(&turn, role);
    buf_puts(&turn, "\n");
    buf_puts(&turn, text);
    enum status status = buf_ok(&turn) ? STATUS_OK : fail(STATUS_NO_MEMORY, "chat: out of memory for a turn");
    TRY_GOTO(status, out);
    TRY_GOTO(token_list_push(out_ids, chat->turn_start), out);
    TRY_GOTO(tokenizer_encode(chat->tokenizer, turn.data, turn.bytes, false, out_ids), out);
    TRY_GOTO(token_list_push(out_ids, chat->turn_end), out);
    TRY_GOTO(tokenizer_encode(chat->tokenizer, "\n", 1, false, out_ids), out);
out:
    buf_deinit(&turn);
    return status;
}

static enum status encode_prompt(const struct chat *chat, const char *system, const char *user,
                                 struct token_list *out_ids, size_t *out_system_end) {
    if (chat->form == CHAT_PLAIN) {
        TRY(tokenizer_encode(chat->tokenizer, system, strlen(system), false, out_ids));
        *out_system_end = out_ids->count;
        return tokenizer_encode(chat->tokenizer, user, strlen(user), false, out_ids);
    }
    TRY(encode_turn(chat, "system", system, out_ids));
    *out_system_end = out_ids->count;
    TRY(encode_turn(chat, "user", user, out_ids));
    TRY(token_list_push(out_ids, chat->turn_start));
    return tokenizer_encode(chat->tokenizer, "assistant\n", strlen("assistant\n"), false, out_ids);
}

enum status chat_encode(const struct chat *chat, const char *system, const char *user, struct token_list *out_ids,
                        size_t *out_system_count) {
    size_t kept = out_ids->count, system_end;
    enum status status = encode_prompt(chat, system ? system : default_systems[chat->form], user, out_ids, &system_end);
    if (status != STATUS_OK)
        out_ids->count = kept;
    else if (out_system_count)
        *out_system_count = system_end - kept;
    return status;
}

enum status chat_encode_answer(const struct chat *chat, const char *answer, struct token_list *out_ids) {
    size_t kept = out_ids->count;
    enum status status = tokenizer_encode(chat->tokenizer, answer, strlen(answer), false, out_ids);
    if (status == STATUS_OK)
        status = token_list_push(out_ids, chat->turn_end);
    if (status != STATUS_OK)
        out_ids->count = kept;
    return status;
}
