/* Endpoints: which forms are taken, and which of them need keys (DESIGN section 12). */
#ifndef CANDOR_TRANSPORT_ENDPOINT_H
#define CANDOR_TRANSPORT_ENDPOINT_H

#include <stdbool.h>

#include "common/base/status.h"
#include "proto/limits.h"

/* sun_path has 108 bytes with its NUL. */
#define IPC_PATH_BYTES_MAX 107

enum endpoint_kind {
    ENDPOINT_INPROC,   /* within this process: tests */
    ENDPOINT_IPC,      /* a path; guarded by the directory's permissions */
    ENDPOINT_LOOPBACK, /* tcp on 127.0.0.0/8, ::1 or localhost */
    ENDPOINT_NETWORK,  /* any other tcp: needs keys */
};

/* What the endpoint is; STATUS_CONFIG saying what would be right. */
enum status endpoint_parse(const char *endpoint, enum endpoint_kind *out_kind);

// What another host has to connect to, when `advertised` was bound for every interface ("tcp://0.0.0.0:5556",
// "tcp://*:5556"): the host by which the same process is reached already (`via`), with the advertised port. Any other
// endpoint is copied.
enum status endpoint_resolve(const char *advertised, const char *via, char out_endpoint[ENDPOINT_BYTES_MAX + 1]);

// True for "tcp://0.0.0.0:..", "tcp://*:..", "tcp://[::]:..".
bool endpoint_is_wildcard(const char *endpoint);

#endif
