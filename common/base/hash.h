/* XXH3 for corruption checks and identity of files and texts (not for secrets). */
#ifndef CANDOR_BASE_HASH_H
#define CANDOR_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

/* 128 bits; the weights' content digest (DESIGN section 8), file hashes and configuration hashes all have this type. */
struct digest {
    uint64_t low, high;
};

#define DIGEST_HEX_BYTES 33 /* 32 hex digits, high half first, and the NUL */

uint64_t hash64(const void *data, size_t bytes);
struct digest hash128(const void *data, size_t bytes);
enum status hash_file(const char *path, struct digest *out_digest, uint64_t *out_bytes);

bool digest_equal(struct digest a, struct digest b);
bool digest_is_zero(struct digest digest);
void digest_format(struct digest digest, char out_hex[DIGEST_HEX_BYTES]);
bool digest_parse(const char *hex, struct digest *out_digest);

#endif
