/* A bounded queue of pointers between two or more threads. It never grows: push waits or declines. An eventfd becomes
 * readable while the queue is not empty, so that a poll loop can wait on sockets and queues alike. */
#ifndef CANDOR_BASE_QUEUE_H
#define CANDOR_BASE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

struct queue;

enum status queue_create(uint32_t capacity, struct queue **out_queue);
/* Items still inside are the caller's to drain before. */
void queue_destroy(struct queue **queue);

/* Wait for room at most timeout_ms (-1 for ever, 0 not at all): STATUS_TIMEOUT, or STATUS_CLOSED after queue_close. */
enum status queue_push(struct queue *queue, void *item, int timeout_ms);
/* As push; a closed queue still gives what it holds, then STATUS_CLOSED. */
enum status queue_pop(struct queue *queue, void **out_item, int timeout_ms);
void queue_close(struct queue *queue);

int queue_fd(const struct queue *queue); /* readable while not empty or closed; never read it */
uint32_t queue_count(struct queue *queue);

#endif
