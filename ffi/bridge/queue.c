/* The completion queue: a lock-free list that many threads push to and one drains. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

struct aiorbd_bridge {
    _Atomic(struct aiorbd_node *) head; /* newest first */
    struct aiorbd_node *ready;          /* oldest first; the loop's thread only */
    atomic_int references;
    int fd;
};

/* Any thread. */
aiorbd_bridge *aiorbd_bridge_new(void)
{
    aiorbd_bridge *bridge = calloc(1, sizeof *bridge);
    if (bridge == NULL)
        return NULL;
    bridge->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bridge->fd < 0) {
        free(bridge);
        return NULL;
    }
    atomic_init(&bridge->head, NULL);
    atomic_init(&bridge->references, 1);
    return bridge;
}

/* Any thread. */
int aiorbd_bridge_fd(const aiorbd_bridge *bridge)
{
    return bridge->fd;
}

/* Any thread. */
void aiorbd_bridge_hold(aiorbd_bridge *bridge)
{
    atomic_fetch_add_explicit(&bridge->references, 1, memory_order_relaxed);
}

/* Any thread. A full counter cannot happen (it takes 2^64 - 2 unread signals), and a signal that is
 * already pending does the same work, so the result does not matter. */
static void signal_loop(const aiorbd_bridge *bridge)
{
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(bridge->fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
}

/* Any thread. */
void aiorbd_bridge_push(aiorbd_bridge *bridge, struct aiorbd_node *node)
{
    struct aiorbd_node *old = atomic_load_explicit(&bridge->head, memory_order_relaxed);
    do {
        node->next = old;
    } while (!atomic_compare_exchange_weak_explicit(&bridge->head, &old, node, memory_order_release,
                                                    memory_order_relaxed));
    /* `node` may be gone by now. Whoever found the list empty signals for everyone after it. */
    if (old == NULL)
        signal_loop(bridge);
}

/* The loop's thread, or the last holder's. Moves what was pushed to `ready`, oldest first. */
static void take_pushed(aiorbd_bridge *bridge)
{
    struct aiorbd_node *node = atomic_exchange_explicit(&bridge->head, NULL, memory_order_acquire);
    while (node != NULL) {
        struct aiorbd_node *next = node->next;
        node->next = bridge->ready;
        bridge->ready = node;
        node = next;
    }
}

/* The loop's thread. The eventfd is read first: a push after that signals anew, so that nothing is
 * missed; and the list is looked at whatever the read said. */
int aiorbd_bridge_drain(aiorbd_bridge *bridge, int64_t *records, int max)
{
    uint64_t count;
    ssize_t got;
    int taken = 0;

    do {
        got = read(bridge->fd, &count, sizeof count);
    } while (got < 0 && errno == EINTR);

    while (taken < max) {
        if (bridge->ready == NULL)
            take_pushed(bridge);
        struct aiorbd_node *node = bridge->ready;
        if (node == NULL)
            return taken;
        bridge->ready = node->next;
        records[2 * taken] = node->token;
        records[2 * taken + 1] = node->value;
        taken++;
        node->taken(node);
    }
    if (bridge->ready != NULL || atomic_load_explicit(&bridge->head, memory_order_relaxed) != NULL)
        signal_loop(bridge);
    return taken;
}

/* Any thread: the owner's, or librbd's when an operation outlived the owner. */
void aiorbd_bridge_release(aiorbd_bridge *bridge)
{
    if (atomic_fetch_sub_explicit(&bridge->references, 1, memory_order_acq_rel) != 1)
        return;
    take_pushed(bridge);
    while (bridge->ready != NULL) {
        struct aiorbd_node *node = bridge->ready;
        bridge->ready = node->next;
        node->taken(node);
    }
    close(bridge->fd);
    free(bridge);
}

/* The loop's thread. */
static void free_node(struct aiorbd_node *node)
{
    free(node);
}

/* Any thread. */
int aiorbd_bridge_post(aiorbd_bridge *bridge, int64_t token, int64_t value)
{
    struct aiorbd_node *node = malloc(sizeof *node);
    if (node == NULL)
        return -ENOMEM;
    node->token = token;
    node->value = value;
    node->taken = free_node;
    aiorbd_bridge_hold(bridge); /* the record may be drained, and the bridge given up, before push returns */
    aiorbd_bridge_push(bridge, node);
    aiorbd_bridge_release(bridge);
    return 0;
}
