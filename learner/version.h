/* A version of the weights in host memory, frozen: what the hub serves to actors and what a checkpoint writes while the device's
 * copy already changes. Reference counted; the last one who lets go frees it. Retain and release from any thread. */
#ifndef CANDOR_LEARNER_VERSION_H
#define CANDOR_LEARNER_VERSION_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/model/parameters.h"
#include "common/weights/record.h"

struct version {
    uint32_t number;      /* weights after so many steps */
    struct digest digest; /* of the content (DESIGN section 8) */
    struct digest canary; /* zero: not computed */
    enum dtype type;
    uint64_t elements;
    void *data; /* [elements] host */
    atomic_uint references;
};

/* A copy of the model's weights now; one reference. On the device's thread. */
enum status version_capture(const struct model *model, uint32_t number, struct version **out_version);
/* The same where an update was recorded (record.h) that led from the version before to the model's weights now: they stay on the
 * device, and the copy is made of the version before. STATUS_DEVICE when what was recorded does not lead to them. */
enum status version_follow(const struct model *model, const struct version *before, struct record *record,
                           uint32_t number, struct version **out_version);
/* Zeroed memory to be filled, for a version read from a checkpoint. */
enum status version_create(uint32_t number, enum dtype type, uint64_t elements, struct version **out_version);
struct version *version_retain(struct version *version);
void version_release(struct version *version); /* NULL is fine */

#endif
