#include "common/base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t utf8_character(const char *text, size_t bytes) {
    const unsigned char *at = (const unsigned char *)text;
    unsigned char first = at[0], low = 0x80, high = 0xbf;
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length > bytes)
        return 0;
    if (first == 0xe0)
        low = 0xa0; /* overlong */
    if (first == 0xed)
        high = 0x9f; /* surrogates */
    if (first == 0xf0)
        low = 0x90; /* overlong */
    if (first == 0xf4)
        high = 0x8f; /* above U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        if (at[i] < low || at[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

bool utf8_valid(const char *text, size_t bytes) {
    size_t i = 0;
    while (i < bytes) {
        uint64_t word;
        if (bytes - i >= sizeof word) { /* eight ASCII bytes at a time */
            memcpy(&word, text + i, sizeof word);
            if (!(word & 0x8080808080808080u)) {
                i += sizeof word;
                continue;
            }
        }
        size_t length = utf8_character(text + i, bytes - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

size_t utf8_cut(const char *text, size_t bytes, size_t bytes_max) {
    if (bytes <= bytes_max)
        return bytes;
    size_t cut = bytes_max;
    while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}
