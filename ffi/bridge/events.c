/* Callbacks that come more than once: header updates of an image, progress of a long call. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

/* Any thread: the owner's, or the one that empties the queue. */
static void drop(struct aiorbd_event *event)
{
    if (atomic_fetch_sub_explicit(&event->references, 1, memory_order_acq_rel) != 1)
        return;
    if (event->dispose != NULL)
        event->dispose(event);
    free(event);
}

/* Any thread. It is the owner that holds the bridge: a record in the bridge's own queue must not, or a queue that no
 * thread empties any more would live for ever. */
void aiorbd_event_release(struct aiorbd_event *event)
{
    aiorbd_bridge *bridge = event->bridge;
    drop(event);
    aiorbd_bridge_release(bridge);
}

/* The loop's thread, or the last holder's of the bridge. Cleared before the record's reader looks at the source, so
 * that news which arrive while it looks queue the record again. */
static void event_taken(struct aiorbd_node *node)
{
    struct aiorbd_event *event = (struct aiorbd_event *)node;
    /* An exchange, so that it reads what the raise before it wrote: the news before that raise is seen then. */
    atomic_exchange_explicit(&event->queued, false, memory_order_acq_rel);
    drop(event);
}

/* Any thread. */
void aiorbd_event_init(struct aiorbd_event *event, aiorbd_bridge *bridge, int64_t token)
{
    aiorbd_bridge_hold(bridge);
    event->bridge = bridge;
    event->node.token = token;
    event->node.value = 0;
    event->node.taken = event_taken;
    atomic_init(&event->queued, false);
    atomic_init(&event->references, 1);
}

/* A thread of librbd's, while the owner still holds its reference. */
void aiorbd_event_raise(struct aiorbd_event *event)
{
    if (atomic_exchange_explicit(&event->queued, true, memory_order_acq_rel))
        return;
    atomic_fetch_add_explicit(&event->references, 1, memory_order_relaxed);
    aiorbd_bridge_push(event->bridge, &event->node);
}

/* Any thread. */
aiorbd_image *aiorbd_image_new(aiorbd_bridge *bridge, void *handle, void *ioctx, int64_t token)
{
    aiorbd_image *image = calloc(1, sizeof *image);
    if (image == NULL)
        return NULL;
    aiorbd_event_init(&image->event, bridge, token);
    image->handle = handle;
    image->ioctx = ioctx;
    atomic_init(&image->generation, 1);
    return image;
}

/* librbd's single thread for header updates. */
static void on_update(void *argument)
{
    aiorbd_image *image = argument;
    aiorbd_image_changed(image);
    aiorbd_event_raise(&image->event);
}

/* A worker thread. */
int aiorbd_image_watch(aiorbd_image *image)
{
    int code = aiorbd_librbd.rbd_update_watch(image->handle, &image->watch, on_update, image);
    image->watching = code >= 0;
    return code;
}

/* A worker thread: waits until a callback that is running has returned. */
int aiorbd_image_unwatch(aiorbd_image *image)
{
    if (!image->watching)
        return 0;
    image->watching = false;
    return aiorbd_librbd.rbd_update_unwatch(image->handle, image->watch);
}

/* Any thread. */
uint64_t aiorbd_image_generation(aiorbd_image *image)
{
    return atomic_load_explicit(&image->generation, memory_order_acquire);
}

/* Any thread. */
void aiorbd_image_set_known(aiorbd_image *image, uint64_t generation)
{
    atomic_store_explicit(&image->known, generation, memory_order_release);
}

/* Any thread. */
int aiorbd_image_is_stale(aiorbd_image *image)
{
    return aiorbd_image_is_barred(image) || atomic_load_explicit(&image->known, memory_order_acquire) !=
                                                atomic_load_explicit(&image->generation, memory_order_acquire);
}

/* Any thread. */
void aiorbd_image_bar(aiorbd_image *image, int barred)
{
    atomic_store_explicit(&image->barred, barred != 0, memory_order_release);
}

/* Any thread. */
int aiorbd_image_is_barred(aiorbd_image *image)
{
    return atomic_load_explicit(&image->barred, memory_order_acquire);
}

/* Any thread. */
uint64_t aiorbd_image_writes(aiorbd_image *image)
{
    return atomic_load_explicit(&image->writes, memory_order_relaxed);
}

/* Any thread. */
void aiorbd_image_add_write(aiorbd_image *image)
{
    atomic_fetch_add_explicit(&image->writes, 1, memory_order_relaxed);
}

/* Any thread. */
void aiorbd_image_changed(aiorbd_image *image)
{
    atomic_fetch_add_explicit(&image->generation, 1, memory_order_acq_rel);
}

/* Any thread. An owner of the image holds the bridge as well. */
void aiorbd_image_hold(aiorbd_image *image)
{
    atomic_fetch_add_explicit(&image->event.references, 1, memory_order_relaxed);
    aiorbd_bridge_hold(image->event.bridge);
}

/* Any thread, after unwatch. */
void aiorbd_image_release(aiorbd_image *image)
{
    aiorbd_event_release(&image->event);
}

struct aiorbd_progress {
    struct aiorbd_event event;
    _Atomic uint64_t done;
    _Atomic uint64_t total;
    atomic_bool stop;
};

/* Any thread. */
aiorbd_progress *aiorbd_progress_new(aiorbd_bridge *bridge, int64_t token)
{
    aiorbd_progress *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return NULL;
    aiorbd_event_init(&slot->event, bridge, token);
    return slot;
}

/* A thread of librbd's, or the worker thread that made the blocking call. Only a negative return stops librbd, and
 * only some calls heed it. */
int aiorbd_on_progress(uint64_t done, uint64_t total, void *argument)
{
    aiorbd_progress *slot = argument;
    atomic_store_explicit(&slot->total, total, memory_order_relaxed);
    atomic_store_explicit(&slot->done, done, memory_order_relaxed);
    aiorbd_event_raise(&slot->event);
    return atomic_load_explicit(&slot->stop, memory_order_relaxed) ? -ECANCELED : 0;
}

/* Any thread. */
void aiorbd_progress_read(aiorbd_progress *slot, uint64_t *done_total)
{
    done_total[0] = atomic_load_explicit(&slot->done, memory_order_relaxed);
    done_total[1] = atomic_load_explicit(&slot->total, memory_order_relaxed);
}

/* Any thread. */
void aiorbd_progress_stop(aiorbd_progress *slot)
{
    atomic_store_explicit(&slot->stop, true, memory_order_relaxed);
}

/* Any thread, after the blocking call returned: no report can come any more. */
void aiorbd_progress_release(aiorbd_progress *slot)
{
    aiorbd_event_release(&slot->event);
}

struct aiorbd_quiesce {
    struct aiorbd_event event;
    _Atomic uint64_t requests;
    _Atomic uint64_t ends;
};

/* Any thread. */
aiorbd_quiesce *aiorbd_quiesce_new(aiorbd_bridge *bridge, int64_t token)
{
    aiorbd_quiesce *quiesce = calloc(1, sizeof *quiesce);
    if (quiesce == NULL)
        return NULL;
    aiorbd_event_init(&quiesce->event, bridge, token);
    return quiesce;
}

/* A thread of librbd's. */
void aiorbd_on_quiesce(void *argument)
{
    aiorbd_quiesce *quiesce = argument;
    atomic_fetch_add_explicit(&quiesce->requests, 1, memory_order_relaxed);
    aiorbd_event_raise(&quiesce->event);
}

/* A thread of librbd's. */
void aiorbd_on_unquiesce(void *argument)
{
    aiorbd_quiesce *quiesce = argument;
    atomic_fetch_add_explicit(&quiesce->ends, 1, memory_order_relaxed);
    aiorbd_event_raise(&quiesce->event);
}

/* Any thread. */
void aiorbd_quiesce_read(aiorbd_quiesce *quiesce, uint64_t *requests_ends)
{
    requests_ends[0] = atomic_load_explicit(&quiesce->requests, memory_order_relaxed);
    requests_ends[1] = atomic_load_explicit(&quiesce->ends, memory_order_relaxed);
}

/* Any thread, after librbd forgot the watch. */
void aiorbd_quiesce_release(aiorbd_quiesce *quiesce)
{
    aiorbd_event_release(&quiesce->event);
}
