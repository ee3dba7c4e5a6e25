#include "common/base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Q1 0 <= count <= capacity; the oldest item is items[head].
 * Q2 the eventfd is readable exactly while count > 0 or closed; it changes only under the mutex.
 * Timeouts and CLOSED are ordinary answers here and keep no message. */
struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_empty, not_full;
    int event_fd;
    bool closed;
    uint32_t capacity, count, head;
    void *items[];
};

static void raise_event(struct queue *queue) {
    ASSERT(eventfd_write(queue->event_fd, 1) == 0);
}

static void clear_event(struct queue *queue) {
    eventfd_t value;
    ASSERT(eventfd_read(queue->event_fd, &value) == 0);
}

enum status queue_create(uint32_t capacity, struct queue **out_queue) {
    ASSERT(capacity > 0);
    struct queue *queue = calloc(1, sizeof *queue + (size_t)capacity * sizeof queue->items[0]);
    if (!queue)
        return fail(STATUS_NO_MEMORY, "queue of %u items: no memory", capacity);
    queue->capacity = capacity;
    queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->event_fd < 0) {
        free(queue);
        return fail_errno("queue: eventfd");
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->not_empty, &attributes);
    pthread_cond_init(&queue->not_full, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&queue->mutex, NULL);
    *out_queue = queue;
    return STATUS_OK;
}

void queue_destroy(struct queue **queue) {
    if (!*queue)
        return;
    ASSERT((*queue)->count == 0);
    pthread_mutex_destroy(&(*queue)->mutex);
    pthread_cond_destroy(&(*queue)->not_empty);
    pthread_cond_destroy(&(*queue)->not_full);
    close((*queue)->event_fd);
    free(*queue);
    *queue = NULL;
}

static struct timespec deadline_after(int timeout_ms) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += timeout_ms / 1000;
    time.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return time;
}

/* One wait on condition; false when the time is up. */
static bool wait_for(struct queue *queue, pthread_cond_t *condition, int timeout_ms, const struct timespec *deadline) {
    if (timeout_ms == 0)
        return false;
    if (timeout_ms < 0)
        return pthread_cond_wait(condition, &queue->mutex) == 0;
    return pthread_cond_timedwait(condition, &queue->mutex, deadline) != ETIMEDOUT;
}

enum status queue_push(struct queue *queue, void *item, int timeout_ms) {
    struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
    enum status status = STATUS_OK;
    pthread_mutex_lock(&queue->mutex);
    bool in_time = true;
    while (!queue->closed && queue->count == queue->capacity && in_time)
        in_time = wait_for(queue, &queue->not_full, timeout_ms, &deadline);
    if (queue->closed) {
        status = STATUS_CLOSED;
    } else if (queue->count == queue->capacity) {
        status = STATUS_TIMEOUT;
    } else {
        uint32_t tail = (uint32_t)(((uint64_t)queue->head + queue->count) % queue->capacity);
        queue->items[tail] = item;
        if (queue->count++ == 0)
            raise_event(queue);
        pthread_cond_signal(&queue->not_empty);
    }
    pthread_mutex_unlock(&queue->mutex);
    return status;
}

enum status queue_pop(struct queue *queue, void **out_item, int timeout_ms) {
    struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
    enum status status = STATUS_OK;
    pthread_mutex_lock(&queue->mutex);
    bool in_time = true;
    while (!queue->closed && queue->count == 0 && in_time)
        in_time = wait_for(queue, &queue->not_empty, timeout_ms, &deadline);
    if (queue->count == 0) {
        status = queue->closed ? STATUS_CLOSED : STATUS_TIMEOUT;
    } else {
        *out_item = queue->items[queue->head];
        queue->head = (queue->head + 1) % queue->capacity;
        if (--queue->count == 0 && !queue->closed)
            clear_event(queue);
        pthread_cond_signal(&queue->not_full);
    }
    pthread_mutex_unlock(&queue->mutex);
    return status;
}

void queue_close(struct queue *queue) {
    pthread_mutex_lock(&queue->mutex);
    if (!queue->closed) {
        queue->closed = true;
        if (queue->count == 0)
            raise_event(queue);
        pthread_cond_broadcast(&queue->not_empty);
        pthread_cond_broadcast(&queue->not_full);
    }
    pthread_mutex_unlock(&queue->mutex);
}

int queue_fd(const struct queue *queue) {
    return queue->event_fd;
}

uint32_t queue_count(struct queue *queue) {
    pthread_mutex_lock(&queue->mutex);
    uint32_t count = queue->count;
    pthread_mutex_unlock(&queue->mutex);
    return count;
}
