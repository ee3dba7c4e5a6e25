/* The ZAP handler (ZeroMQ RFC 27): CURVE alone proves that a client has a key, not that the key is one of ours. A thread
 * answers each handshake from a directory of public keys; a key is added or withdrawn by adding or removing its file, which
 * takes effect at the next handshake, without a restart.
 *
 * Without a directory every CURVE client is refused. Plain clients of ipc and loopback never come here: their sockets have no
 * ZAP domain. */
#ifndef CANDOR_TRANSPORT_ZAP_H
#define CANDOR_TRANSPORT_ZAP_H

#include "common/base/status.h"

#define ZAP_KEYS_MAX 4096 /* PEERS_MAX */

struct zap;

/* allow: directory of *.pub files, or "". STATUS_CONFIG when it cannot be read or a file in it is not a key. One per
 * context. */
enum status zap_start(void *context, const char *allow, struct zap **out_zap);
/* Before the context is terminated; ends the thread. */
void zap_stop(struct zap **zap);

#endif
