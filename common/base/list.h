/* Doubly linked lists whose links lie within the elements: no allocation, removal without a search. The head is a link itself;
 * a list of nothing is a head that points to itself. */
#ifndef CANDOR_BASE_LIST_H
#define CANDOR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *previous, *next;
};

/* The element of a link. */
#define LIST_ELEMENT(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void list_init(struct link *head) {
    head->previous = head->next = head;
}

static inline bool list_empty(const struct link *head) {
    return head->next == head;
}

static inline void list_insert_after(struct link *before, struct link *link) {
    link->previous = before;
    link->next = before->next;
    before->next->previous = link;
    before->next = link;
}

static inline void list_push_back(struct link *head, struct link *link) {
    list_insert_after(head->previous, link);
}

static inline void list_push_front(struct link *head, struct link *link) {
    list_insert_after(head, link);
}

/* The link belongs to no list afterwards, and removing it again changes nothing. */
static inline void list_remove(struct link *link) {
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}

/* For links that were initialised: is it in a list? */
static inline bool list_linked(const struct link *link) {
    return link->next != link;
}

#endif
