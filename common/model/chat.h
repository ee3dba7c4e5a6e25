/* From a system prompt and a question to the prompt's tokens, and from an answer to the tokens that follow it.
 *
 * The form belongs to the model. It is recognised by the chat_template of its directory (chat_template.jinja, or
 * tokenizer_config.json); a template that is none of these is refused by name, never approximated:
 *   qwen2.5  ChatML, default system prompt "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
 *   qwen2    ChatML, default system prompt "You are a helpful assistant."
 *   plain    "SYSTEM QUESTION" between spaces, the answer, <end>: the demo's world
 * "candor_chat_template": "NAME" in tokenizer_config.json chooses one and overrides the file's own. A ChatML vocabulary without
 * any template is taken as qwen2.5. Control tokens come from the form alone; text is encoded without them. */
#ifndef CANDOR_MODEL_CHAT_H
#define CANDOR_MODEL_CHAT_H

#include "common/model/tokenizer.h"

enum chat_form { CHAT_QWEN25, CHAT_QWEN2, CHAT_PLAIN };

struct chat {
    enum chat_form form;
    const struct tokenizer *tokenizer; /* borrowed */
    int32_t turn_start, turn_end;      /* <|im_start|> (-1: none) and the token that ends an answer */
};

/* Reads the form from a model directory; the tokenizer is that directory's and outlives the chat. STATUS_UNSUPPORTED for
 * another template, STATUS_FORMAT when the vocabulary lacks the form's control tokens. */
enum status chat_open(const char *directory, const struct tokenizer *tokenizer, struct chat *out_chat);

const char *chat_form_name(enum chat_form form);

/* The prompt as text, ready for the answer (for people and for tests: the tokens come from chat_encode).
 *   system  NULL: the form's default */
enum status chat_render(const struct chat *chat, const char *system, const char *user, struct buf *out_text);

/* Append the prompt's ids.
 *   out_system_count  how many of the appended ids depend on the system prompt alone: their keys and values are the same
 *                     for every question. May be NULL.
 * On failure out_ids is as it was. */
enum status chat_encode(const struct chat *chat, const char *system, const char *user, struct token_list *out_ids,
                        size_t *out_system_count);

/* Append the ids of an answer and of the token that ends it: the targets of supervised training. */
enum status chat_encode_answer(const struct chat *chat, const char *answer, struct token_list *out_ids);

#endif
