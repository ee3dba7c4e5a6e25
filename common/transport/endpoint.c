#include "common/transport/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMS "ipc:///path, tcp://host:port or tcp://*:port"

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* Host and port of "tcp://host:port"; false when it is not that. The host keeps its brackets. */
static bool split(const char *endpoint, char out_host[ENDPOINT_BYTES_MAX + 1], const char **out_port) {
    const char *host = endpoint + strlen("tcp://");
    const char *colon = strrchr(host, ':');
    if (!colon || colon == host || colon[1] == '\0')
        return false;
    if (strcmp(colon + 1, "*") != 0) {
        char *end;
        unsigned long port = strtoul(colon + 1, &end, 10);
        if (*end != '\0' || colon[1] < '0' || colon[1] > '9' || port > 65535)
            return false;
    }
    memcpy(out_host, host, (size_t)(colon - host));
    out_host[colon - host] = '\0';
    *out_port = colon + 1;
    return strpbrk(out_host, "/;") == NULL;
}

/* Literal addresses only: a name that resolves to loopback today may not tomorrow. */
static bool is_loopback(const char *host) {
    int parts[4], length = 0;
    if (sscanf(host, "%3d.%3d.%3d.%3d%n", &parts[0], &parts[1], &parts[2], &parts[3], &length) == 4 &&
        host[length] == '\0')
        return parts[0] == 127;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

enum status endpoint_parse(const char *endpoint, enum endpoint_kind *out_kind) {
    char host[ENDPOINT_BYTES_MAX + 1];
    const char *port;
    if (strlen(endpoint) > ENDPOINT_BYTES_MAX)
        return fail(STATUS_CONFIG, "%.40s...: an endpoint has at most %d bytes", endpoint, ENDPOINT_BYTES_MAX);
    if (starts_with(endpoint, "inproc://") && endpoint[9] != '\0') {
        *out_kind = ENDPOINT_INPROC;
        return STATUS_OK;
    }
    if (starts_with(endpoint, "ipc://")) {
        const char *path = endpoint + strlen("ipc://");
        if (path[0] !=
            '/') /* @name, an abstract socket, has no permissions; a relative path means another file elsewhere */
            return fail(STATUS_CONFIG, "%s: ipc needs an absolute path, as in ipc:///run/candor/control", endpoint);
        if (strlen(path) > IPC_PATH_BYTES_MAX)
            return fail(STATUS_CONFIG, "%s: %zu bytes of path, a socket's has at most %d", endpoint, strlen(path),
                        IPC_PATH_BYTES_MAX);
        *out_kind = ENDPOINT_IPC;
        return STATUS_OK;
    }
    if (starts_with(endpoint, "tcp://") && split(endpoint, host, &port)) {
        *out_kind = is_loopback(host) ? ENDPOINT_LOOPBACK : ENDPOINT_NETWORK;
        return STATUS_OK;
    }
    return fail(STATUS_CONFIG, "%s: not an endpoint: " FORMS, endpoint[0] ? endpoint : "empty");
}

bool endpoint_is_wildcard(const char *endpoint) {
    return starts_with(endpoint, "tcp://0.0.0.0:") || starts_with(endpoint, "tcp://*:") ||
           starts_with(endpoint, "tcp://[::]:");
}

enum status endpoint_resolve(const char *advertised, const char *via, char out_endpoint[ENDPOINT_BYTES_MAX + 1]) {
    char host[ENDPOINT_BYTES_MAX + 1];
    const char *via_port, *port = strrchr(advertised, ':');
    int length;
    if (endpoint_is_wildcard(advertised) && starts_with(via, "tcp://") && split(via, host, &via_port))
        length = snprintf(out_endpoint, ENDPOINT_BYTES_MAX + 1, "tcp://%s%s", host, port);
    else
        length = snprintf(out_endpoint, ENDPOINT_BYTES_MAX + 1, "%s", advertised);
    if (length > ENDPOINT_BYTES_MAX)
        return fail(STATUS_CONFIG, "%.40s...: an endpoint has at most %d bytes", advertised, ENDPOINT_BYTES_MAX);
    return STATUS_OK;
}
