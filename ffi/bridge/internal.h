/* What the bridge's own files share. */
#ifndef AIORBD_INTERNAL_H
#define AIORBD_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "bridge.h"
#include "symbols.h"

/*
 * One entry of the queue, embedded in whatever produces it. `taken` runs exactly once after the
 * push: on the loop's thread when the record was copied out, or on the thread that drops the
 * bridge's last reference when nobody drained it.
 */
struct aiorbd_node {
    struct aiorbd_node *next;
    int64_t token;
    int64_t value;
    void (*taken)(struct aiorbd_node *node);
};

/*
 * A source of many records that never allocates: while its one record is queued, further news are
 * told by the same record. It lives until its owner and the queue have both let go.
 */
struct aiorbd_event {
    struct aiorbd_node node; /* first: `taken` gets this address */
    aiorbd_bridge *bridge;
    atomic_bool queued;
    atomic_int references;
};

void aiorbd_bridge_hold(aiorbd_bridge *bridge);
/* Link the node in and wake the loop. The caller must hold a reference until this returned: the
 * drain may be done with the node before the eventfd is written. */
void aiorbd_bridge_push(aiorbd_bridge *bridge, struct aiorbd_node *node);

void aiorbd_event_init(struct aiorbd_event *event, aiorbd_bridge *bridge, int64_t token);
void aiorbd_event_raise(struct aiorbd_event *event);
void aiorbd_event_release(struct aiorbd_event *event); /* frees; the event is its struct's first member */

struct aiorbd_image {
    struct aiorbd_event event;
    void *handle;
    uint64_t watch;
    bool watching;
    _Atomic uint64_t generation; /* how often librbd told of a change, and one */
    _Atomic uint64_t known;      /* the generation whose size the caller has */
};

#endif
