#include "common/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *buf) {
    *buf = (struct buf){0};
}

void buf_deinit(struct buf *buf) {
    free(buf->data);
    buf_init(buf);
}

void buf_reset(struct buf *buf) {
    buf->bytes = 0;
    buf->failed = false;
    if (buf->data)
        buf->data[0] = '\0';
}

bool buf_ok(const struct buf *buf) {
    return !buf->failed;
}

static void give_up(struct buf *buf) {
    buf_deinit(buf);
    buf->failed = true;
}

char *buf_reserve(struct buf *buf, size_t bytes) {
    if (buf->failed)
        return NULL;
    if (bytes > SIZE_MAX / 2 - buf->bytes - 1) {
        give_up(buf);
        return NULL;
    }
    size_t wanted = buf->bytes + bytes + 1; /* the NUL is always in reach */
    if (wanted > buf->capacity) {
        size_t capacity = buf->capacity ? buf->capacity : 64;
        while (capacity < wanted)
            capacity *= 2;
        char *data = realloc(buf->data, capacity);
        if (!data) {
            give_up(buf);
            return NULL;
        }
        buf->data = data;
        buf->capacity = capacity;
    }
    return buf->data + buf->bytes;
}

void buf_append(struct buf *buf, const void *data, size_t bytes) {
    char *end = buf_reserve(buf, bytes);
    if (!end)
        return;
    if (bytes > 0)
        memcpy(end, data, bytes);
    end[bytes] = '\0';
    buf->bytes += bytes;
}

void buf_puts(struct buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *end = length >= 0 ? buf_reserve(buf, (size_t)length) : NULL;
    if (end) {
        vsnprintf(end, (size_t)length + 1, format, again);
        buf->bytes += (size_t)length;
    } else {
        give_up(buf);
    }
    va_end(again);
}

char *buf_take(struct buf *buf, size_t *out_bytes) {
    if (!buf_reserve(buf, 0))
        return NULL;
    char *data = buf->data;
    data[buf->bytes] = '\0';
    if (out_bytes)
        *out_bytes = buf->bytes;
    buf_init(buf);
    return data;
}
