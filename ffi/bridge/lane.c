/*
 * Many reads and writes of one image, a bounded number of them with librbd at a time. A request that ends makes room
 * for one that waits, on librbd's own thread: the loop need not wake up in between, and librbd's threads need not be
 * woken, since one of them submits. The loop is woken when several requests are completed, and not for each, unless
 * none waits. The loop sets itself an alarm for those that would be left then.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

struct aiorbd_lane {
    aiorbd_image *image;   /* held */
    atomic_int references; /* the creator's, and one for each operation */
    atomic_int untold;     /* completed operations since the last wake-up for them */
    atomic_int enough;     /* so many wake the loop: `bulk`, or 1 when the loop has no alarm set */
    int bulk;
    pthread_mutex_t mutex;
    struct aiorbd_operation *first, **last; /* that wait: none while there is room */
    int room;
};

/* Any thread. */
static void drop(struct aiorbd_lane *lane)
{
    aiorbd_image *image = lane->image;
    if (atomic_fetch_sub_explicit(&lane->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&lane->mutex);
    free(lane);
    aiorbd_event_release(&image->event);
}

/* Any thread. The loop is woken at once when nothing waits. The counts are in one order with those of
 * aiorbd_lane_hurry(): one side always sees the other's, so no wake-up is lost. */
static void finish(struct aiorbd_operation *operation, int64_t value, bool at_once)
{
    struct aiorbd_lane *lane = operation->lane;
    aiorbd_bridge *bridge = operation->bridge;
    operation->node.value = value;
    aiorbd_bridge_add(bridge, &operation->node);
    if (atomic_fetch_add(&lane->untold, 1) + 1 >= atomic_load(&lane->enough) || at_once) {
        atomic_store(&lane->untold, 0);
        aiorbd_bridge_alert(bridge);
    }
    aiorbd_event_release(&lane->image->event);
    drop(lane);
}

/* Any thread. One operation less is with librbd: take the next, or make room. */
static struct aiorbd_operation *next_of(struct aiorbd_lane *lane)
{
    struct aiorbd_operation *next;
    pthread_mutex_lock(&lane->mutex);
    next = lane->first;
    if (next == NULL) {
        lane->room++;
    } else {
        lane->first = next->next;
        if (lane->first == NULL)
            lane->last = &lane->first;
    }
    pthread_mutex_unlock(&lane->mutex);
    return next;
}

/* Any thread. Submit a waiting operation. A refused operation gets its record here, and the next one follows. */
static void go_on(struct aiorbd_operation *operation)
{
    while (operation != NULL) {
        struct aiorbd_lane *lane = operation->lane;
        int code = aiorbd_operation_start_late(operation);
        if (!code)
            return;
        struct aiorbd_operation *next = next_of(lane);
        finish(operation, code, next == NULL);
        operation = next;
    }
}

/* A thread of librbd's. */
void aiorbd_lane_over(struct aiorbd_operation *operation, int64_t value)
{
    struct aiorbd_operation *next = next_of(operation->lane);
    bool last = next == NULL;
    go_on(next);
    finish(operation, value, last);
}

/* Any thread. */
aiorbd_lane *aiorbd_lane_new(aiorbd_image *image, int depth, int bulk)
{
    struct aiorbd_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return NULL;
    lane->image = image;
    lane->room = depth;
    lane->bulk = bulk;
    lane->last = &lane->first;
    atomic_init(&lane->enough, 1);
    atomic_init(&lane->references, 1);
    pthread_mutex_init(&lane->mutex, NULL);
    aiorbd_image_hold(image);
    return lane;
}

/* Any thread. */
int aiorbd_lane_submit(aiorbd_lane *lane, int64_t token, const aiorbd_request *request)
{
    aiorbd_image *image = lane->image;
    const uint64_t generation = aiorbd_image_generation(image); /* before the look: a change after it is noticed */
    struct aiorbd_operation *operation;
    int code, room;
    if (aiorbd_image_is_stale(image))
        return AIORBD_STALE;
    operation = aiorbd_operation_new(image->event.bridge, image, token, request);
    if (operation == NULL)
        return -ENOMEM;
    operation->lane = lane;
    operation->generation = generation;
    atomic_fetch_add_explicit(&lane->references, 1, memory_order_relaxed);
    pthread_mutex_lock(&lane->mutex);
    room = lane->room > 0;
    if (room) {
        lane->room--;
    } else {
        *lane->last = operation;
        lane->last = &operation->next;
    }
    pthread_mutex_unlock(&lane->mutex);
    code = room ? aiorbd_operation_start_late(operation) : 0;
    if (!code)
        return 0;
    go_on(next_of(lane)); /* another may have come to wait meanwhile */
    drop(lane);
    return aiorbd_operation_give_up(operation, code == AIORBD_STALE_BY_NOW ? AIORBD_STALE : code);
}

/* The loop's thread. */
void aiorbd_lane_wait(aiorbd_lane *lane)
{
    atomic_store(&lane->enough, lane->bulk);
}

/* The loop's thread. */
void aiorbd_lane_hurry(aiorbd_lane *lane)
{
    atomic_store(&lane->enough, 1);
    if (atomic_exchange(&lane->untold, 0))
        aiorbd_bridge_alert(lane->image->event.bridge);
}

/* Any thread. */
void aiorbd_lane_cancel(aiorbd_lane *lane)
{
    struct aiorbd_operation *operation;
    pthread_mutex_lock(&lane->mutex);
    operation = lane->first;
    lane->first = NULL;
    lane->last = &lane->first;
    pthread_mutex_unlock(&lane->mutex);
    while (operation != NULL) {
        struct aiorbd_operation *next = operation->next;
        finish(operation, -ECANCELED, next == NULL);
        operation = next;
    }
}

/* Any thread. */
void aiorbd_lane_release(aiorbd_lane *lane)
{
    drop(lane);
}
