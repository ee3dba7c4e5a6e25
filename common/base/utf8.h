/* Well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef CANDOR_BASE_UTF8_H
#define CANDOR_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character at text, 0 when malformed or cut off; bytes > 0. */
size_t utf8_character(const char *text, size_t bytes);
bool utf8_valid(const char *text, size_t bytes);
/* The longest beginning of text, at most bytes_max long, that does not cut a character; text is well-formed. */
size_t utf8_cut(const char *text, size_t bytes, size_t bytes_max);

#endif
