#include "reward/extract.h"

#include <string.h>
#include <strings.h>

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool starts_with(const char *text, size_t bytes, const char *word) {
    size_t length = strlen(word);
    return bytes >= length && strncasecmp(text, word, length) == 0;
}

/* The closing bracket of the one at `open`; brackets of its kind nest. */
static bool find_bracket(const char *text, size_t text_bytes, size_t open, size_t *out_close) {
    char opens = text[open], closes = opens == '[' ? ']' : '}';
    size_t depth = 0, end = text_bytes - open > FINAL_BYTES_MAX ? open + FINAL_BYTES_MAX : text_bytes;
    for (size_t i = open; i < end; i++) {
        depth += text[i] == opens;
        if (text[i] == closes && --depth == 0) {
            *out_close = i;
            return true;
        }
    }
    return false;
}

static bool find_tag(const char *text, size_t text_bytes, size_t from, size_t *out_close) {
    size_t end = text_bytes - from > FINAL_BYTES_MAX ? from + FINAL_BYTES_MAX : text_bytes;
    for (size_t i = from; i < end; i++) {
        if (text[i] == '<' && starts_with(text + i, end - i, "</answer>")) {
            *out_close = i;
            return true;
        }
    }
    return false;
}

/* A box that begins at i. */
static bool box_at(const char *text, size_t text_bytes, size_t i, struct box *out_box) {
    size_t start, end;
    if (text[i] == '<') {
        if (!starts_with(text + i, text_bytes - i, "<answer>"))
            return false;
        start = i + strlen("<answer>");
        if (!find_tag(text, text_bytes, start, &end))
            return false;
    } else {
        if (!starts_with(text + i, text_bytes - i, "boxed") || (i > 0 && is_letter(text[i - 1])))
            return false;
        size_t bracket = i + strlen("boxed");
        bracket += bracket < text_bytes && text[bracket] == ' ';
        if (bracket >= text_bytes || (text[bracket] != '[' && text[bracket] != '{') ||
            !find_bracket(text, text_bytes, bracket, &end))
            return false;
        start = bracket + 1;
    }
    while (start < end && is_space(text[start]))
        start++;
    while (end > start && is_space(text[end - 1]))
        end--;
    *out_box = (struct box){start, end - start, i};
    return end > start;
}

bool box_find_last(const char *text, size_t text_bytes, size_t before, struct box *out_box) {
    for (size_t i = before; i-- > 0;) {
        char c = text[i];
        if ((c == '<' || c == 'b' || c == 'B') && box_at(text, text_bytes, i, out_box))
            return true;
    }
    return false;
}
