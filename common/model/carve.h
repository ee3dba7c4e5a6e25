/* One device allocation cut into parts: walked once without memory to measure, once with it to hand out. So a plan's bytes
 * are the bytes that are allocated. */
#ifndef CANDOR_MODEL_CARVE_H
#define CANDOR_MODEL_CARVE_H

#include <stddef.h>
#include <stdint.h>

#define CARVE_ALIGN 256 /* what cuBLASLt likes best */

struct carve {
    char *base; /* NULL: measuring, and every part is NULL */
    size_t bytes;
};

static inline void *carve_part(struct carve *carve, int64_t count, size_t size) {
    void *part = carve->base ? carve->base + carve->bytes : NULL;
    carve->bytes += ((size_t)count * size + CARVE_ALIGN - 1) / CARVE_ALIGN * CARVE_ALIGN;
    return part;
}

#endif
