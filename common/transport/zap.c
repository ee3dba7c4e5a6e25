#include "common/transport/zap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/transport/keys.h"

#define ENDPOINT "inproc://zeromq.zap.01"
#define REQUEST_FRAMES 7 /* version, request id, domain, address, routing id, mechanism, key */
#define FRAME_BYTES 256  /* the longest that a request's frames are: address, routing id */

struct zap {
    pthread_t thread;
    void *socket;
    atomic_bool stop;
    char allow[PATH_BYTES];
    struct timespec read_at; /* the directory's mtime when it was read */
    uint32_t key_count;
    char keys[ZAP_KEYS_MAX][KEY_BYTES];
};

static bool is_public_file(const char *name) {
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".pub") == 0 && name[0] != '.';
}

/* Read the directory anew. Keys that are good are taken, whatever else lies there; the first bad one is the status. */
static enum status read_keys(struct zap *zap) {
    struct stat info;
    struct fs_list list;
    enum status status = STATUS_OK;
    zap->key_count = 0;
    if (stat(zap->allow, &info) != 0)
        return fail(STATUS_CONFIG, "net.allow = %s: %s", zap->allow, strerror(errno));
    zap->read_at = info.st_mtim;
    TRY(fs_list_directory(zap->allow, &list));
    for (size_t i = 0; i < list.count; i++) {
        char path[PATH_BYTES];
        if (!is_public_file(list.names[i]))
            continue;
        if (zap->key_count == ZAP_KEYS_MAX) {
            status = fail(STATUS_LIMIT, "net.allow = %s: more than %d keys", zap->allow, ZAP_KEYS_MAX);
            break;
        }
        enum status one = fs_join(path, zap->allow, list.names[i]);
        if (one == STATUS_OK)
            one = keys_read_public(path, zap->keys[zap->key_count]);
        if (one == STATUS_OK)
            zap->key_count++;
        else
            status = one;
    }
    fs_list_free(&list);
    return status;
}

static void refresh(struct zap *zap) {
    struct stat info;
    if (!zap->allow[0])
        return;
    if (stat(zap->allow, &info) == 0 && info.st_mtim.tv_sec == zap->read_at.tv_sec &&
        info.st_mtim.tv_nsec == zap->read_at.tv_nsec)
        return;
    if (read_keys(zap) != STATUS_OK)
        LOG_EVERY(60000, LOG_WARNING, "allow_list", "error=\"%s\"", status_message());
    log_event(LOG_INFO, "allow_list", "keys=%u", zap->key_count);
}

static bool is_allowed(struct zap *zap, const char *key) {
    refresh(zap);
    for (uint32_t i = 0; i < zap->key_count; i++) {
        if (strcmp(zap->keys[i], key) == 0)
            return true;
    }
    return false;
}

struct request {
    char frames[REQUEST_FRAMES][FRAME_BYTES];
    size_t bytes[REQUEST_FRAMES];
    int count;
    bool too_long;
};

/* A whole message; longer frames and further ones are passed over. false: nothing is there. */
static bool receive(void *socket, struct request *request) {
    int more = 1;
    request->count = 0;
    request->too_long = false;
    while (more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, request->count == 0 ? ZMQ_DONTWAIT : 0) < 0) {
            zmq_msg_close(&part);
            return false;
        }
        if (request->count < REQUEST_FRAMES && zmq_msg_size(&part) < FRAME_BYTES) {
            size_t bytes = zmq_msg_size(&part);
            memcpy(request->frames[request->count], zmq_msg_data(&part), bytes);
            request->frames[request->count][bytes] = '\0';
            request->bytes[request->count] = bytes;
        } else {
            request->too_long = true;
        }
        request->count++;
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return true;
}

/* 200 with the key as user id; or 300, "temporary": the client is disconnected and comes back with back-off, so that it gets in
 * once its key is allowed. After 400 ZeroMQ's client gives up for ever. */
static void reply(void *socket, const struct request *request, bool allowed, const char *key) {
    const char *const parts[] = {
        "1.0", request->frames[1], allowed ? "200" : "300", allowed ? "OK" : "not on the allow-list", key, ""};
    for (int i = 0; i < 6; i++) {
        size_t bytes = i == 1 ? request->bytes[1] : strlen(parts[i]);
        zmq_send(socket, parts[i], bytes, i < 5 ? ZMQ_SNDMORE : 0);
    }
}

static void answer(struct zap *zap, const struct request *request) {
    char key[KEY_BYTES] = "";
    bool allowed = false;
    if (request->count == REQUEST_FRAMES && !request->too_long && strcmp(request->frames[5], "CURVE") == 0 &&
        request->bytes[6] == 32) {
        zmq_z85_encode(key, (const uint8_t *)request->frames[6], 32);
        allowed = is_allowed(zap, key);
    }
    if (!allowed) /* the key is public: the operator has to see it to allow it */
        LOG_EVERY(10000, LOG_WARNING, "client_refused", "address=%s public_key=%s reason=\"not in net.allow\"",
                  request->count > 3 ? request->frames[3] : "?", key);
    reply(zap->socket, request, allowed, allowed ? key : "");
}

static void *handle(void *argument) {
    struct zap *zap = argument;
    zmq_pollitem_t item = {.socket = zap->socket, .events = ZMQ_POLLIN};
    static _Thread_local struct request request;
    while (!atomic_load(&zap->stop)) {
        if (zmq_poll(&item, 1, 100) <= 0)
            continue;
        while (receive(zap->socket, &request))
            answer(zap, &request);
    }
    return NULL;
}

enum status zap_start(void *context, const char *allow, struct zap **out_zap) {
    enum status status;
    sigset_t all, before;
    struct zap *zap = calloc(1, sizeof *zap);
    if (!zap)
        return fail(STATUS_NO_MEMORY, "zap: no memory");
    if (snprintf(zap->allow, sizeof zap->allow, "%s", allow) >= (int)sizeof zap->allow) {
        status = fail(STATUS_CONFIG, "net.allow = %.40s...: path too long", allow);
        goto failed;
    }
    if (allow[0])
        TRY_GOTO(read_keys(zap), failed);
    zap->socket = zmq_socket(context, ZMQ_REP);
    if (!zap->socket || zmq_bind(zap->socket, ENDPOINT) != 0) {
        status = fail(STATUS_IO, "zap handler: %s", zmq_strerror(zmq_errno()));
        goto failed;
    }
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&zap->thread, NULL, handle, zap);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        status = fail(STATUS_IO, "zap handler: no thread: %s", strerror(error));
        goto failed;
    }
    *out_zap = zap;
    return STATUS_OK;
failed:
    if (zap->socket)
        zmq_close(zap->socket);
    free(zap);
    return status;
}

void zap_stop(struct zap **zap) {
    if (!*zap)
        return;
    atomic_store(&(*zap)->stop, true);
    pthread_join((*zap)->thread, NULL);
    zmq_close((*zap)->socket);
    free(*zap);
    *zap = NULL;
}
