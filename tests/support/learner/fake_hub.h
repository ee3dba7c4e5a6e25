/* hub_server of common/hub/server.h without sockets, actors or time, for tests of the run's loop: taking work generates the
 * answers on the spot from the weights that the leases name. An answer is right when the hash of its ids is even.
 * It takes the place of the real one at link time. */
#ifndef CANDOR_TESTS_SUPPORT_LEARNER_FAKE_HUB_H
#define CANDOR_TESTS_SUPPORT_LEARNER_FAKE_HUB_H

#include "common/hub/server.h"
#include "learner/run.h"

#define FAKE_OFFERS_MAX 256

struct fake_hub {
    /* what the test wants */
    struct run *run;
    uint32_t stop_at; /* run_stop when this training step is taken; UINT32_MAX: never */
    uint32_t fail_at; /* a fatal error instead of this step's groups, as if killed; UINT32_MAX: never */
    uint32_t poison;  /* bits of the steps in which a behaviour log-probability makes the loss infinite */
    enum status fail_with;
    uint32_t evals_until; /* no evaluation is complete before this training step is taken */
    /* what the run did */
    struct {
        uint8_t stream;
        uint32_t step, version, newest; /* newest: highest version published when it was offered */
        uint32_t priority;
    } offers[FAKE_OFFERS_MAX];
    uint32_t offer_count;
    uint32_t published, released;
    uint32_t alive_most; /* versions published and not released */
};

extern struct fake_hub fake;
void fake_hub_reset(void);

#endif
