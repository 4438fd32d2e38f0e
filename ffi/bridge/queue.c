/* The completion queue: a list that many threads push to and one drains, and the eventfd that says so. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

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
    atomic_init(&bridge->references, 1);
    atomic_init(&bridge->armed, true);
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

/* Any thread. A full counter cannot happen (it takes 2^64 - 2 unread signals), and a signal that is already pending
 * does the same work, so the result does not matter. */
static void signal_loop(const aiorbd_bridge *bridge)
{
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(bridge->fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
}

/* Any thread. `node` may be gone after the push, which is in one order with the look at `armed`, as the loop's are in
 * aiorbd_bridge_end(): one of both sees the other. One push signals for all until the loop sleeps again. */
void aiorbd_bridge_push(aiorbd_bridge *bridge, struct aiorbd_node *node)
{
    aiorbd_bridge_add(bridge, node);
    aiorbd_bridge_alert(bridge);
}

/* Any thread. The first half of a push: the loop finds the node when it is awake. */
void aiorbd_bridge_add(aiorbd_bridge *bridge, struct aiorbd_node *node)
{
    aiorbd_list_push(&bridge->records, node);
}

/* Any thread. The second half: wake the loop. */
void aiorbd_bridge_alert(aiorbd_bridge *bridge)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bridge->armed, memory_order_relaxed) && atomic_exchange(&bridge->armed, false))
        signal_loop(bridge);
}

/* The loop's thread. The caller looks at the list even if the eventfd had no signal. */
void aiorbd_bridge_begin(aiorbd_bridge *bridge)
{
    uint64_t count;
    ssize_t got;
    do {
        got = read(bridge->fd, &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    atomic_store(&bridge->armed, false);
    bridge->found = false;
    bridge->pass.running = true;
}

/* The loop's thread. */
int aiorbd_bridge_take(aiorbd_bridge *bridge, int64_t *records, int max)
{
    int taken = 0;
    records[0] = 0;
    while (taken < max) {
        struct aiorbd_node *node = aiorbd_list_pop(&bridge->records);
        if (node == NULL)
            break;
        records[1 + 2 * taken] = node->token;
        records[2 + 2 * taken] = node->value;
        records[0] = ++taken;
        node->taken(node);
    }
    if (taken) {
        bridge->wakeups += !bridge->found;
        bridge->found = true;
        bridge->taken += (uint64_t)taken;
    }
    return taken;
}

/* The loop's thread. */
void aiorbd_bridge_submit_pass(aiorbd_bridge *bridge)
{
    aiorbd_pass_end(&bridge->pass);
}

/* The loop's thread. */
void aiorbd_bridge_end(aiorbd_bridge *bridge)
{
    aiorbd_pass_end(&bridge->pass);
    aiorbd_bridge_rest(bridge);
}

/* The loop's thread. */
void aiorbd_bridge_rest(aiorbd_bridge *bridge)
{
    atomic_store(&bridge->armed, true);
    atomic_thread_fence(memory_order_seq_cst);
    if ((bridge->records.ready != NULL || atomic_load_explicit(&bridge->records.head, memory_order_relaxed) != NULL) &&
        atomic_exchange(&bridge->armed, false))
        signal_loop(bridge);
}

/* The loop's thread. */
void aiorbd_bridge_wake(aiorbd_bridge *bridge)
{
    aiorbd_pass_end(&bridge->pass);
    atomic_store(&bridge->armed, false);
    signal_loop(bridge);
}

/* The loop's thread. */
void aiorbd_bridge_drained(const aiorbd_bridge *bridge, uint64_t *wakeups_records)
{
    wakeups_records[0] = bridge->wakeups;
    wakeups_records[1] = bridge->taken;
}

/* Any thread: the owner's, or librbd's when an operation outlived the owner. */
void aiorbd_bridge_release(aiorbd_bridge *bridge)
{
    struct aiorbd_node *node;
    if (atomic_fetch_sub_explicit(&bridge->references, 1, memory_order_acq_rel) != 1)
        return;
    while ((node = aiorbd_list_pop(&bridge->records)) != NULL)
        node->taken(node);
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
