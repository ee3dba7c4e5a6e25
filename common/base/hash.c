#include "common/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define BLOCK_BYTES (1u << 20)

static struct digest from_xxh(XXH128_hash_t hash) {
    return (struct digest){.low = hash.low64, .high = hash.high64};
}

uint64_t hash64(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

struct digest hash128(const void *data, size_t bytes) {
    return from_xxh(XXH3_128bits(data, bytes));
}

static enum status hash_stream(int fd, const char *path, XXH3_state_t *state, char *block, uint64_t *out_bytes) {
    uint64_t total = 0;
    for (;;) {
        ssize_t got = read(fd, block, BLOCK_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("%s", path);
        if (got == 0)
            break;
        XXH3_128bits_update(state, block, (size_t)got);
        total += (uint64_t)got;
    }
    *out_bytes = total;
    return STATUS_OK;
}

enum status hash_file(const char *path, struct digest *out_digest, uint64_t *out_bytes) {
    enum status status = STATUS_OK;
    uint64_t bytes = 0;
    XXH3_state_t *state = NULL;
    char *block = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? fail(STATUS_NOT_FOUND, "%s: no such file", path) : fail_errno("%s", path);
    state = XXH3_createState();
    block = malloc(BLOCK_BYTES);
    if (!state || !block) {
        status = fail(STATUS_NO_MEMORY, "%s: no memory to hash it", path);
        goto done;
    }
    XXH3_128bits_reset(state);
    TRY_GOTO(hash_stream(fd, path, state, block, &bytes), done);
    *out_digest = from_xxh(XXH3_128bits_digest(state));
    if (out_bytes)
        *out_bytes = bytes;
done:
    free(block);
    XXH3_freeState(state);
    close(fd);
    return status;
}

bool digest_equal(struct digest a, struct digest b) {
    return a.low == b.low && a.high == b.high;
}

bool digest_is_zero(struct digest digest) {
    return (digest.low | digest.high) == 0;
}

void digest_format(struct digest digest, char out_hex[DIGEST_HEX_BYTES]) {
    snprintf(out_hex, DIGEST_HEX_BYTES, "%016llx%016llx", (unsigned long long)digest.high,
             (unsigned long long)digest.low);
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool digest_parse(const char *hex, struct digest *out_digest) {
    uint64_t words[2] = {0, 0};
    for (int i = 0; i < DIGEST_HEX_BYTES - 1; i++) {
        int value = hex_value(hex[i]); /* also stops at an early NUL */
        if (value < 0)
            return false;
        words[i / 16] = words[i / 16] << 4 | (uint64_t)value;
    }
    if (hex[DIGEST_HEX_BYTES - 1] != '\0')
        return false;
    *out_digest = (struct digest){.high = words[0], .low = words[1]};
    return true;
}
