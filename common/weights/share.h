/* Blocks of a delta shared out among threads that live as long as one call: it takes milliseconds, starting a thread
 * some ten microseconds. The device's team is no help here: it works for the generation meanwhile. Private to
 * common/weights. */
#ifndef CANDOR_WEIGHTS_SHARE_H
#define CANDOR_WEIGHTS_SHARE_H

#include <stddef.h>
#include <stdint.h>

#define SHARE_PARTS_MAX 64

/* Parts for so many blocks and threads: at least 1. Part i has the blocks from share_begin(i) to share_begin(i + 1). */
uint32_t share_parts(uint64_t blocks, int threads);

static inline uint64_t share_begin(uint64_t blocks, uint32_t parts, uint32_t i) {
    return blocks * i / parts;
}

/* work(&parts[i]) for each of count parts, and all of it done. A part whose thread cannot be had is worked through here. */
void share_run(void *parts, size_t part_bytes, uint32_t count, void *(*work)(void *part));

#endif
