/*
 * Reads and writes of many tasks, each told when it is over. While librbd has many of them, and several
 * are over in a pass of the loop, a new one waits: librbd's thread submits it as soon as the next is over.
 * That is at once, where so many end, and costs less: the thread that submits need not wake another one, as
 * the loop would. Where none ends, because an OSD is stuck, an alarm of the loop's does it.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

enum {
    MANY = 8,    /* with librbd: a request waits for about one part in so many of what it takes, at most */
    SEVERAL = 3, /* over in this pass of the loop and the one before: the loop has no time to spare */
};

/* Nanoseconds for which an alarm that is set covers what waits from now on: it rings later than that. */
static const uint64_t FRESH = (AIORBD_ALARM_MS - 1) * 1000000ull;

struct relayed {
    struct aiorbd_node node; /* first: freed through it */
    struct aiorbd_request request;
    aiorbd_bridge *bridge;
    aiorbd_image *image; /* open until the record is drained; not to be touched by the callback */
    struct relayed *next; /* that waits */
};

/* The last holder's thread, or the loop's. */
static void free_relayed(struct aiorbd_node *node)
{
    free(node);
}

void aiorbd_relay_init(struct aiorbd_relay *relay)
{
    pthread_mutex_init(&relay->mutex, NULL);
    relay->last = &relay->first;
    atomic_init(&relay->running, 0);
}

void aiorbd_relay_destroy(struct aiorbd_relay *relay)
{
    pthread_mutex_destroy(&relay->mutex);
}

/* Any thread. So many more are not with librbd any more; take what waits, which is then. */
static struct relayed *take(struct aiorbd_relay *relay, int over)
{
    struct relayed *first;
    pthread_mutex_lock(&relay->mutex);
    first = relay->first;
    atomic_fetch_add_explicit(&relay->running, relay->waiting - over, memory_order_relaxed);
    relay->first = NULL;
    relay->last = &relay->first;
    relay->waiting = 0;
    pthread_mutex_unlock(&relay->mutex);
    return first;
}

static void on_complete(void *completion, void *argument);

/* Any thread. Submit what waited; what is refused now has its record from here. */
static void go_on(struct relayed *one)
{
    while (one != NULL) {
        struct relayed *next = one->next; /* it may be over, and gone, before its submit returns */
        int code = aiorbd_request_submit(one->image, &one->request, on_complete, one);
        if (code) {
            aiorbd_bridge *bridge = one->bridge;
            struct relayed *more = take(aiorbd_bridge_relay(bridge), 1);
            one->node.value = code;
            aiorbd_bridge_push(bridge, &one->node);
            go_on(more);
            aiorbd_bridge_release(bridge);
        }
        one = next;
    }
}

/* A thread of librbd's. The loop is told first: its work is the longer one. */
static void on_complete(void *completion, void *argument)
{
    struct relayed *one = argument;
    aiorbd_bridge *bridge = one->bridge;
    one->node.value = aiorbd_request_over(&one->request, bridge, completion);
    aiorbd_bridge_push(bridge, &one->node);
    go_on(take(aiorbd_bridge_relay(bridge), 1));
    aiorbd_bridge_release(bridge);
}

/* The loop's thread. What is true of `running` now may change until the mutex is held. */
static bool is_busy(aiorbd_bridge *bridge)
{
    return atomic_load_explicit(&aiorbd_bridge_relay(bridge)->running, memory_order_relaxed) >= MANY &&
           aiorbd_bridge_found(bridge) >= SEVERAL;
}

/* The loop's thread. */
uint64_t aiorbd_relay_wants_alarm(aiorbd_bridge *bridge)
{
    uint64_t now;
    if (!is_busy(bridge))
        return 0;
    now = aiorbd_now();
    return now < aiorbd_bridge_relay(bridge)->covered ? 0 : now;
}

/* The loop's thread. */
void aiorbd_relay_set_alarm(aiorbd_bridge *bridge, uint64_t now)
{
    aiorbd_bridge_relay(bridge)->covered = now + FRESH;
}

/* The loop's thread. */
int aiorbd_relay_submit(aiorbd_image *image, int64_t token, int kind, uint64_t offset, size_t length,
                        void *buffer)
{
    uint64_t generation = aiorbd_image_generation(image);
    aiorbd_bridge *bridge = image->event.bridge;
    struct aiorbd_relay *relay = aiorbd_bridge_relay(bridge);
    struct relayed *one;
    bool waits;
    int code;
    if (aiorbd_image_is_stale(image))
        return AIORBD_STALE;
    one = malloc(sizeof *one);
    if (one == NULL)
        return -ENOMEM;
    *one = (struct relayed){
        .node = {.token = token, .taken = free_relayed},
        .request = {.kind = kind, .offset = offset, .length = length, .buffer = buffer, .generation = generation},
        .bridge = bridge,
        .image = image,
    };
    aiorbd_bridge_hold(bridge);
    waits = is_busy(bridge) && aiorbd_now() < relay->covered;
    pthread_mutex_lock(&relay->mutex);
    waits = waits && atomic_load_explicit(&relay->running, memory_order_relaxed) >= MANY;
    if (waits) { /* the next that ends takes it along */
        *relay->last = one;
        relay->last = &one->next;
        relay->waiting++;
    } else {
        atomic_fetch_add_explicit(&relay->running, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&relay->mutex);
    if (waits)
        return 0;
    code = aiorbd_request_submit(image, &one->request, on_complete, one);
    if (!code)
        return 0;
    go_on(take(relay, 1));
    free(one);
    aiorbd_bridge_release(bridge);
    return code == AIORBD_STALE_BY_NOW ? AIORBD_STALE : code;
}

/* The loop's thread. */
void aiorbd_relay_hurry(aiorbd_bridge *bridge)
{
    go_on(take(aiorbd_bridge_relay(bridge), 0));
}
