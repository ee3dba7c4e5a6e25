#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/data/mix.h"

/* Compatibility forms taken apart, marks and invisible characters dropped, case folded. */
#define FOLD                                                                                                           \
    (UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE | UTF8PROC_STRIPMARK)

static bool is_word(utf8proc_int32_t code) {
    utf8proc_category_t category = utf8proc_category(code);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

void mix_normalise(const char *text, struct buf *out) {
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t bytes =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)strlen(text), &folded, (utf8proc_option_t)FOLD);
    if (bytes < 0) { /* out of memory, or not utf-8: compared as it stands */
        buf_puts(out, text);
        return;
    }
    bool gap = false;
    size_t begin = out->bytes;
    for (utf8proc_ssize_t at = 0; at < bytes;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t step = utf8proc_iterate(folded + at, bytes - at, &code);
        if (step <= 0)
            break;
        if (!is_word(code)) {
            gap = true;
        } else {
            if (gap && out->bytes > begin)
                buf_append(out, " ", 1);
            buf_append(out, folded + at, (size_t)step);
            gap = false;
        }
        at += step;
    }
    buf_append(out, "", 0);
    free(folded);
}
