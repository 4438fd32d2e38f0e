/*
 * Many reads and writes of one image, a bounded number of them with librbd at a time. What ends makes
 * room for what waits, on librbd's own thread: the loop need not wake up in between, and librbd's
 * threads need not be woken, since one of them submits. What is over is gathered here and taken in bulk:
 * the loop is told when `bulk` are over, and not of each, unless nothing waits and it should bring more.
 * It sets itself an alarm for what would be left then.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

struct request {
    struct aiorbd_node node; /* first: freed through it */
    struct aiorbd_lane *lane;
    struct request *next; /* that waits */
    struct aiorbd_request asked;
};

struct aiorbd_lane {
    struct aiorbd_event event; /* first; says that something is over */
    aiorbd_image *image;       /* held; open as long as a request is here */
    atomic_int references;     /* the creator's, and one for each request */
    struct aiorbd_list over;   /* requests, each until it is taken */
    atomic_int untold;         /* are over since the loop last took some, or a few more */
    atomic_int enough;         /* to tell the loop: `bulk`, or 1 when it sets no alarm */
    int bulk;
    pthread_mutex_t mutex;
    struct request *first, **last; /* that wait: none while there is room */
    int room;
};

/* The last holder's thread. */
static void dispose(struct aiorbd_event *event)
{
    struct aiorbd_lane *lane = (struct aiorbd_lane *)event;
    struct aiorbd_node *node;
    while ((node = aiorbd_list_pop(&lane->over)) != NULL)
        free(node);
    pthread_mutex_destroy(&lane->mutex);
}

/* Any thread. The lane's record may still be queued, and keeps its memory then. */
static void drop(struct aiorbd_lane *lane)
{
    aiorbd_image *image = lane->image;
    if (atomic_fetch_sub_explicit(&lane->references, 1, memory_order_acq_rel) != 1)
        return;
    aiorbd_event_release(&lane->event);
    aiorbd_event_release(&image->event);
}

/* Any thread. The request belongs to whoever takes it. The loop is told at once when nothing waits.
 * The counts are in one order with those of aiorbd_lane_hurry(): one of both sees the other's. */
static void finish(struct request *request, int64_t value, bool at_once)
{
    struct aiorbd_lane *lane = request->lane;
    request->node.value = value;
    aiorbd_list_push(&lane->over, &request->node);
    if (atomic_fetch_add(&lane->untold, 1) + 1 >= atomic_load(&lane->enough) || at_once)
        aiorbd_event_raise(&lane->event);
    drop(lane);
}

/* Any thread. One request less is with librbd: take the next, or make room. */
static struct request *next_of(struct aiorbd_lane *lane)
{
    struct request *request;
    pthread_mutex_lock(&lane->mutex);
    request = lane->first;
    if (request == NULL) {
        lane->room++;
    } else {
        lane->first = request->next;
        if (lane->first == NULL)
            lane->last = &lane->first;
    }
    pthread_mutex_unlock(&lane->mutex);
    return request;
}

static void on_complete(void *completion, void *argument);

/* Any thread. Submit what waited; what is refused now has its record from here. */
static void go_on(struct request *request)
{
    while (request != NULL) {
        struct aiorbd_lane *lane = request->lane;
        int code = aiorbd_request_submit(lane->image, &request->asked, on_complete, request);
        if (!code)
            return;
        struct request *next = next_of(lane);
        finish(request, code, next == NULL);
        request = next;
    }
}

/* A thread of librbd's. */
static void on_complete(void *completion, void *argument)
{
    struct request *request = argument;
    struct aiorbd_lane *lane = request->lane;
    struct request *next;
    int64_t value = aiorbd_request_over(&request->asked, lane->event.bridge, completion);
    next = next_of(lane);
    go_on(next);
    finish(request, value, next == NULL);
}

/* Any thread. */
aiorbd_lane *aiorbd_lane_new(aiorbd_image *image, int64_t token, int depth, int bulk)
{
    struct aiorbd_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return NULL;
    aiorbd_event_init(&lane->event, image->event.bridge, token);
    lane->event.dispose = dispose;
    lane->image = image;
    lane->room = depth;
    lane->bulk = bulk;
    lane->last = &lane->first;
    atomic_init(&lane->untold, 0);
    atomic_init(&lane->enough, 1);
    atomic_init(&lane->references, 1);
    pthread_mutex_init(&lane->mutex, NULL);
    /* Another owner of the image, which holds the bridge as well. */
    atomic_fetch_add_explicit(&image->event.references, 1, memory_order_relaxed);
    aiorbd_bridge_hold(image->event.bridge);
    return lane;
}

/* Any thread. librbd does not write to the buffer of a write. */
int aiorbd_lane_submit(aiorbd_lane *lane, int64_t number, int kind, uint64_t offset, size_t length,
                       void *buffer, int op_flags)
{
    uint64_t generation = aiorbd_image_generation(lane->image);
    struct request *request;
    bool room;
    int code;
    aiorbd_bridge_set_submitted(lane->event.bridge, 0); /* the number may have been used before */
    if (aiorbd_image_is_stale(lane->image))
        return AIORBD_STALE;
    request = malloc(sizeof *request);
    if (request == NULL)
        return -ENOMEM;
    *request = (struct request){
        .node.token = number,
        .lane = lane,
        .asked = {.kind = kind, .offset = offset, .length = length, .buffer = buffer, .op_flags = op_flags,
                  .generation = generation},
    };
    atomic_fetch_add_explicit(&lane->references, 1, memory_order_relaxed);
    aiorbd_bridge_set_submitted(lane->event.bridge, number);
    pthread_mutex_lock(&lane->mutex);
    room = lane->room > 0;
    if (room) {
        lane->room--;
    } else {
        *lane->last = request;
        lane->last = &request->next;
    }
    pthread_mutex_unlock(&lane->mutex);
    if (!room)
        return 0;
    code = aiorbd_request_submit(lane->image, &request->asked, on_complete, request);
    if (!code)
        return 0;
    aiorbd_bridge_set_submitted(lane->event.bridge, 0);
    go_on(next_of(lane)); /* nothing waits: whoever could enter is here */
    free(request);
    drop(lane);
    return code == AIORBD_STALE_BY_NOW ? AIORBD_STALE : code;
}

/* The loop's thread. The number of records stands in the array as in aiorbd_bridge_drain(). What is over
 * after the count began anew is counted, though it may be taken here. */
int aiorbd_lane_take(aiorbd_lane *lane, int64_t *records, int max)
{
    int taken = 0;
    records[0] = 0;
    atomic_store(&lane->enough, lane->bulk);
    atomic_store(&lane->untold, 0);
    while (taken < max) {
        struct aiorbd_node *node = aiorbd_list_pop(&lane->over);
        if (node == NULL)
            break;
        records[1 + 2 * taken] = node->token;
        records[2 + 2 * taken] = node->value;
        records[0] = ++taken;
        free(node);
    }
    aiorbd_bridge_count_taken(lane->event.bridge, taken);
    if (lane->over.ready != NULL ||
        atomic_load_explicit(&lane->over.head, memory_order_relaxed) != NULL)
        aiorbd_event_raise(&lane->event);
    return taken;
}

/* The loop's thread. */
void aiorbd_lane_again(aiorbd_lane *lane)
{
    aiorbd_event_raise(&lane->event);
}

/* The loop's thread. */
void aiorbd_lane_hurry(aiorbd_lane *lane)
{
    atomic_store(&lane->enough, 1);
    if (atomic_load(&lane->untold))
        aiorbd_event_raise(&lane->event);
}

/* Any thread. */
void aiorbd_lane_cancel(aiorbd_lane *lane)
{
    struct request *request;
    pthread_mutex_lock(&lane->mutex);
    request = lane->first;
    lane->first = NULL;
    lane->last = &lane->first;
    pthread_mutex_unlock(&lane->mutex);
    while (request != NULL) {
        struct request *next = request->next;
        finish(request, -ECANCELED, next == NULL);
        request = next;
    }
}

/* Any thread. */
void aiorbd_lane_release(aiorbd_lane *lane)
{
    drop(lane);
}
