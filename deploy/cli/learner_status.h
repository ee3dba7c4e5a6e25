/* Asking a learner what it does: a peer of its control socket that says no hello and holds no lease. One thread. */
#ifndef CANDOR_DEPLOY_LEARNER_STATUS_H
#define CANDOR_DEPLOY_LEARNER_STATUS_H

#include <jansson.h>

#include "common/transport/socket.h"

struct learner_status {
    struct transport *transport;
    void *socket;
    bool asked;
};

/* keys: of this host and of the learner, empty where none are needed. The learner need not be there yet. */
enum status learner_status_open(const char *endpoint, const struct transport_settings *keys,
                                struct learner_status *out_status);
void learner_status_close(struct learner_status *status);

/* Ask, unless an answer is still awaited, and wait for one: STATUS_TIMEOUT when none has come within wait_ms. The answer is
 * JSON (hub_status_json), the caller's to json_decref. */
enum status learner_status_ask(struct learner_status *status, int wait_ms, json_t **out_answer);

#endif
