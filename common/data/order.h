/* Which question stands in which slot of which step: a pure function of (seed, count, slots), so that a resumed learner, a
 * simulation and a report agree without asking.
 *
 * Slot s of step k is place p = k * slots + s of an endless sequence; epoch e = p / count is one shuffle of all questions
 * (RNG_ORDER, step = e), so each question comes once an epoch. A step may cross from one epoch into the next. */
#ifndef CANDOR_DATA_ORDER_H
#define CANDOR_DATA_ORDER_H

#include <stdint.h>

#include "common/base/status.h"

struct order {
    uint64_t seed;
    uint32_t count, slots; /* questions; slots a step */
    uint32_t *permutation; /* [count] of epoch `epoch`: a cache, so one order belongs to one thread */
    uint32_t epoch;
};

/* count and slots > 0. */
enum status order_init(struct order *order, uint64_t seed, uint32_t count, uint32_t slots);
void order_deinit(struct order *order);

/* Index of the question, in [0, count). */
uint32_t order_question(struct order *order, uint32_t step, uint32_t slot);
/* The epoch in which that place lies. */
uint32_t order_epoch(const struct order *order, uint32_t step, uint32_t slot);

#endif
