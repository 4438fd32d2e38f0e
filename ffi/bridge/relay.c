/*
 * Small reads and writes of many tasks at one image, each told when it is over. While librbd has many of
 * them, and several things are over in a pass of the loop, a new one waits: librbd's thread submits it as
 * soon as another one ends. That is soon, where so much ends, and costs less: the thread that submits need
 * not wake another one, as the loop would. Where none ends, because an OSD is stuck, an alarm of the loop's
 * does it, and for a while nothing waits then.
 *
 * While anything waits, at least MANY are with librbd: each that ends takes one or more along.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "internal.h"

enum {
    MANY = 12,      /* with librbd; when these end evenly, a request waits for a twelfth of what it takes */
    SEVERAL = 3,    /* over in this pass of the loop and the one before: the loop has no time to spare */
    AT_ONCE = 4,    /* submitted by one callback: others wait for it */
    SMALL = 65536,  /* bytes: librbd copies what is written, on the thread that submits */
};

/* Nanoseconds: when an alarm is overdue, what waiting is too long, and for how long nothing waits after that: the
 * cache stops for a moment when it is full, an OSD for many. So it is the double each time, up to a second. */
static const uint64_t OVERDUE = 10000000, TOO_LONG = 2000000, REST = 5000000, LONGEST_REST = 1000000000;

struct relayed {
    struct aiorbd_node node; /* first: freed through it */
    struct aiorbd_request request;
    aiorbd_image *image; /* held: the loop may be gone */
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

/* Of those that wait none is left: they hold the image. */
void aiorbd_relay_destroy(struct aiorbd_relay *relay)
{
    pthread_mutex_destroy(&relay->mutex);
}

/* Any thread, with the mutex. Take so many of those that wait: the caller submits them. */
static struct relayed *cut(struct aiorbd_relay *relay, int most)
{
    struct relayed *first = relay->first, **link = &relay->first;
    int count = 0;
    for (; count < most && *link != NULL; count++)
        link = &(*link)->next;
    if (!count)
        return NULL;
    relay->first = *link;
    if (relay->first == NULL)
        relay->last = &relay->first;
    *link = NULL;
    atomic_fetch_add_explicit(&relay->running, count, memory_order_relaxed);
    return first;
}

/* Any thread. One is not with librbd any more: take some of those that wait. */
static struct relayed *next_of(struct aiorbd_relay *relay)
{
    struct relayed *first;
    pthread_mutex_lock(&relay->mutex);
    atomic_fetch_sub_explicit(&relay->running, 1, memory_order_relaxed);
    first = cut(relay, AT_ONCE);
    pthread_mutex_unlock(&relay->mutex);
    return first;
}

static void on_complete(void *completion, void *argument);

/* Any thread. Submit what waited; what is refused now has its record from here, and makes room for others. */
static void go_on(struct relayed *one)
{
    while (one != NULL) {
        aiorbd_image *image = one->image;
        struct relayed *next = one->next; /* it may be over, and gone, before its submit returns */
        int code = aiorbd_request_submit(image, &one->request, on_complete, one);
        if (code) {
            struct relayed **last = &next;
            while (*last != NULL)
                last = &(*last)->next;
            *last = next_of(&image->relay);
            one->node.value = code;
            aiorbd_bridge_push(image->event.bridge, &one->node);
            aiorbd_event_release(&image->event);
        }
        one = next;
    }
}

/* A thread of librbd's. The loop is told first: its work is the longer one. */
static void on_complete(void *completion, void *argument)
{
    struct relayed *one = argument;
    aiorbd_image *image = one->image;
    one->node.value = aiorbd_request_over(&one->request, image->event.bridge, completion);
    aiorbd_bridge_push(image->event.bridge, &one->node);
    go_on(next_of(&image->relay));
    aiorbd_event_release(&image->event);
}

/* The loop's thread. */
static bool is_busy(aiorbd_image *image, uint64_t now)
{
    return atomic_load_explicit(&image->relay.running, memory_order_relaxed) >= MANY &&
           aiorbd_bridge_found(image->event.bridge) >= SEVERAL && now >= image->relay.rested;
}

/* The loop's thread. */
int aiorbd_relay_wants_alarm(aiorbd_image *image)
{
    uint64_t now = aiorbd_now();
    return is_busy(image, now) && now >= image->relay.overdue;
}

/* The loop's thread. */
void aiorbd_relay_set_alarm(aiorbd_image *image)
{
    image->relay.overdue = aiorbd_now() + OVERDUE;
}

/* The loop's thread. */
int aiorbd_relay_submit(aiorbd_image *image, int64_t token, int kind, uint64_t offset, size_t length,
                        void *buffer)
{
    uint64_t generation = aiorbd_image_generation(image), now;
    struct aiorbd_relay *relay = &image->relay;
    struct relayed *one, *before = NULL;
    bool waits;
    int code;
    if (aiorbd_image_is_stale(image))
        return AIORBD_STALE;
    one = malloc(sizeof *one);
    if (one == NULL)
        return -ENOMEM;
    now = aiorbd_now();
    *one = (struct relayed){
        .node = {.token = token, .taken = free_relayed},
        .request = {.kind = kind, .offset = offset, .length = length, .buffer = buffer,
                    .generation = generation, .started = now},
        .image = image,
    };
    /* Another owner of the image, which holds the bridge as well. */
    atomic_fetch_add_explicit(&image->event.references, 1, memory_order_relaxed);
    aiorbd_bridge_hold(image->event.bridge);
    waits = length <= SMALL && now < relay->overdue && is_busy(image, now);
    pthread_mutex_lock(&relay->mutex);
    waits = waits && atomic_load_explicit(&relay->running, memory_order_relaxed) >= MANY;
    if (waits) {
        *relay->last = one;
        relay->last = &one->next;
    } else {
        before = cut(relay, INT_MAX);
        atomic_fetch_add_explicit(&relay->running, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&relay->mutex);
    if (waits)
        return 0;
    go_on(before);
    code = aiorbd_request_submit(image, &one->request, on_complete, one);
    if (!code)
        return 0;
    go_on(next_of(relay));
    free(one);
    aiorbd_event_release(&image->event);
    return code == AIORBD_STALE_BY_NOW ? AIORBD_STALE : code;
}

/* The loop's thread. */
void aiorbd_relay_hurry(aiorbd_image *image)
{
    struct aiorbd_relay *relay = &image->relay;
    uint64_t now = aiorbd_now();
    struct relayed *first;
    pthread_mutex_lock(&relay->mutex);
    first = cut(relay, INT_MAX);
    pthread_mutex_unlock(&relay->mutex);
    relay->overdue = 0;
    if (first == NULL || now - first->request.started < TOO_LONG) {
        relay->rest = 0;
    } else if (!relay->rest) {
        relay->rest = REST;
    } else if (relay->rest < LONGEST_REST) {
        relay->rest *= 2;
    }
    relay->rested = now + relay->rest;
    go_on(first);
}
