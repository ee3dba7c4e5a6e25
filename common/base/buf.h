/* A growable byte buffer, and the string builder on it. A buffer that ran out of memory stays failed and empty; check
 * buf_ok() once at the end instead of every append. */
#ifndef CANDOR_BASE_BUF_H
#define CANDOR_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;      /* NUL-terminated after every text append */
    size_t bytes;    /* without that NUL */
    size_t capacity;
    bool failed;
};

void buf_init(struct buf *buf); /* all zeros is also valid */
void buf_deinit(struct buf *buf);
void buf_reset(struct buf *buf);
bool buf_ok(const struct buf *buf);
/* Room for bytes more at the end, not yet counted; NULL when failed. */
char *buf_reserve(struct buf *buf, size_t bytes);
void buf_append(struct buf *buf, const void *data, size_t bytes);
void buf_puts(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Hand the memory to the caller (free()); the buffer is empty afterwards. NULL when failed. */
char *buf_take(struct buf *buf, size_t *out_bytes);

#endif
