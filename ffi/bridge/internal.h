/* What the bridge's own files share. */
#ifndef AIORBD_INTERNAL_H
#define AIORBD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "bridge.h"
#include "symbols.h"

/*
 * One entry of the queue, embedded in its producer. `taken` runs exactly once after the push: on the loop's thread
 * when the record was copied out, or on the thread that drops the bridge's last reference when the record was not
 * drained.
 */
struct aiorbd_node {
    struct aiorbd_node *next;
    int64_t token;
    int64_t value;
    void (*taken)(struct aiorbd_node *node);
};

/* A list that any thread pushes to, without a lock, and one thread empties, oldest first. */
struct aiorbd_list {
    _Atomic(struct aiorbd_node *) head; /* newest first */
    struct aiorbd_node *ready;          /* oldest first; the emptying thread only */
};

/* Any thread. Returns whether the list was empty before. */
static inline bool aiorbd_list_push(struct aiorbd_list *list, struct aiorbd_node *node)
{
    struct aiorbd_node *old = atomic_load_explicit(&list->head, memory_order_relaxed);
    do {
        node->next = old;
    } while (
        !atomic_compare_exchange_weak_explicit(&list->head, &old, node, memory_order_release, memory_order_relaxed));
    return old == NULL;
}

/* The emptying thread. Returns NULL when there is nothing. */
static inline struct aiorbd_node *aiorbd_list_pop(struct aiorbd_list *list)
{
    struct aiorbd_node *node;
    if (list->ready == NULL) {
        node = atomic_exchange_explicit(&list->head, NULL, memory_order_acquire);
        while (node != NULL) {
            struct aiorbd_node *next = node->next;
            node->next = list->ready;
            list->ready = node;
            node = next;
        }
    }
    node = list->ready;
    if (node != NULL)
        list->ready = node->next;
    return node;
}

/* A source of many records that never allocates: while its one record is queued, further news use the same record. It
 * lives until its owner and the queue have both let go. */
struct aiorbd_event {
    struct aiorbd_node node; /* first: `taken` gets this address */
    aiorbd_bridge *bridge;
    atomic_bool queued;
    atomic_int references;
    void (*dispose)(struct aiorbd_event *event); /* frees the source's memory; may be NULL */
};

/* What is written by librbd's threads for one kind of operation: see aiorbd_counts. */
struct aiorbd_tally {
    _Atomic uint64_t done, failed, bytes, nanoseconds;
    _Atomic uint64_t buckets[AIORBD_BUCKETS];
};

/* A request with librbd, or about to be: see submit.c. */
struct aiorbd_operation {
    struct aiorbd_node node;       /* first: freed through it */
    aiorbd_bridge *bridge;         /* held */
    aiorbd_image *image;           /* held; NULL for opens and closes */
    aiorbd_lane *lane;             /* held; NULL for most */
    struct aiorbd_operation *next; /* of the same pass, or that waits in the same lane */
    uint64_t started;              /* nanoseconds, at the submit */
    uint64_t generation;           /* of the image at the check of the request's range */
    aiorbd_request request;
};

struct aiorbd_operation *aiorbd_operation_new(aiorbd_bridge *bridge, aiorbd_image *image, int64_t token,
                                              const aiorbd_request *request);
int aiorbd_operation_start(struct aiorbd_operation *operation);
int aiorbd_operation_start_late(struct aiorbd_operation *operation); /* also AIORBD_STALE_BY_NOW */
int aiorbd_operation_give_up(struct aiorbd_operation *operation, int code);
void aiorbd_operation_finish(struct aiorbd_operation *operation, int64_t value);

void aiorbd_lane_over(struct aiorbd_operation *operation, int64_t value);
void aiorbd_image_hold(aiorbd_image *image);

/* What the tasks of one pass of the loop ask for: see handover.c. The loop's thread. */
struct aiorbd_pass {
    bool running;
    struct aiorbd_operation *first, *last;
};

struct aiorbd_bridge {
    struct aiorbd_list records;
    atomic_int references;
    atomic_bool armed; /* the loop sleeps, or is about to: a push must write the eventfd */
    int fd;
    uint64_t wakeups, taken; /* the loop's thread's */
    bool found;              /* so is this: a record was taken since the last begin */
    struct aiorbd_pass pass; /* and this */
    struct aiorbd_tally tallies[AIORBD_KINDS];
};

void aiorbd_pass_end(struct aiorbd_pass *pass);
void aiorbd_bridge_hold(aiorbd_bridge *bridge);
uint64_t aiorbd_now(void);                               /* nanoseconds */
uint32_t aiorbd_crc32c(const void *data, size_t length); /* any thread */
void aiorbd_tally_add(struct aiorbd_tally *tally, uint64_t nanoseconds, int64_t value, uint64_t bytes);
/* Link the node in and wake the loop. The caller must hold a reference until this returned: the drain may be done
 * with the node before the eventfd is written. */
void aiorbd_bridge_push(aiorbd_bridge *bridge, struct aiorbd_node *node);
void aiorbd_bridge_add(aiorbd_bridge *bridge, struct aiorbd_node *node);
void aiorbd_bridge_alert(aiorbd_bridge *bridge);

void aiorbd_event_init(struct aiorbd_event *event, aiorbd_bridge *bridge, int64_t token);
void aiorbd_event_raise(struct aiorbd_event *event);
void aiorbd_event_release(struct aiorbd_event *event); /* frees; the event is its struct's first member */

struct aiorbd_image {
    struct aiorbd_event event;
    void *handle;
    void *ioctx; /* a rados_ioctx_t without writes, or NULL */
    uint64_t watch;
    bool watching;
    _Atomic uint64_t generation; /* one more than the changes that librbd reported */
    _Atomic uint64_t known;      /* the generation whose size the caller has */
    _Atomic uint64_t writes;     /* submitted, of all kinds */
    atomic_bool barred;          /* nothing that moves data may reach librbd */
};

#endif
