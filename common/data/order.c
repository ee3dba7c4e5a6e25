#include "common/data/order.h"

#include <stdlib.h>

#include "common/base/rng.h"

#define NO_EPOCH UINT32_MAX

enum status order_init(struct order *order, uint64_t seed, uint32_t count, uint32_t slots) {
    ASSERT(count > 0 && slots > 0);
    uint32_t *permutation = malloc(count * sizeof *permutation);
    if (!permutation)
        return fail(STATUS_NO_MEMORY, "out of memory for the order of %u questions", count);
    *order = (struct order){seed, count, slots, permutation, NO_EPOCH};
    return STATUS_OK;
}

void order_deinit(struct order *order) {
    free(order->permutation);
    *order = (struct order){0};
}

static uint64_t place(const struct order *order, uint32_t step, uint32_t slot) {
    ASSERT(slot < order->slots);
    return (uint64_t)step * order->slots + slot;
}

uint32_t order_epoch(const struct order *order, uint32_t step, uint32_t slot) {
    return (uint32_t)(place(order, step, slot) / order->count);
}

uint32_t order_question(struct order *order, uint32_t step, uint32_t slot) {
    uint32_t epoch = order_epoch(order, step, slot);
    if (epoch != order->epoch) {
        for (uint32_t i = 0; i < order->count; i++)
            order->permutation[i] = i;
        struct rng_key key = {.seed = order->seed, .step = epoch, .stream = RNG_ORDER};
        rng_shuffle(&key, order->permutation, order->count);
        order->epoch = epoch;
    }
    return order->permutation[place(order, step, slot) % order->count];
}
