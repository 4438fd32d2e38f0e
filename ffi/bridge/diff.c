/*
 * The extents of a diff, on their way from the worker thread that walks the image to the loop.
 *
 * librbd reports them on the thread that called it, which is ours: so this callback may wait. It does when the loop
 * is behind, and that bounds the memory. librbd holds no lock then that others need.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

struct extent {
    uint64_t offset, length, exists;
};

struct aiorbd_diff {
    struct aiorbd_event event;
    pthread_mutex_t mutex;
    pthread_cond_t room;
    bool stop;
    unsigned capacity, first, count;
    struct extent ring[];
};

/* The last holder's thread. */
static void dispose(struct aiorbd_event *event)
{
    aiorbd_diff *diff = (aiorbd_diff *)event;
    pthread_cond_destroy(&diff->room);
    pthread_mutex_destroy(&diff->mutex);
}

/* Any thread. */
aiorbd_diff *aiorbd_diff_new(aiorbd_bridge *bridge, int64_t token, unsigned capacity)
{
    aiorbd_diff *diff = calloc(1, sizeof *diff + capacity * sizeof diff->ring[0]);
    if (diff == NULL)
        return NULL;
    diff->capacity = capacity;
    pthread_mutex_init(&diff->mutex, NULL); /* with default attributes neither can fail */
    pthread_cond_init(&diff->room, NULL);
    aiorbd_event_init(&diff->event, bridge, token);
    diff->event.dispose = dispose;
    return diff;
}

/* The worker thread that called librbd. Only a negative return stops the walk. */
int aiorbd_on_extent(uint64_t offset, size_t length, int exists, void *argument)
{
    aiorbd_diff *diff = argument;
    bool stop;
    pthread_mutex_lock(&diff->mutex);
    while (diff->count == diff->capacity && !diff->stop)
        pthread_cond_wait(&diff->room, &diff->mutex);
    stop = diff->stop;
    if (!stop) {
        struct extent *extent = &diff->ring[(diff->first + diff->count++) % diff->capacity];
        *extent = (struct extent){offset, length, exists != 0};
    }
    pthread_mutex_unlock(&diff->mutex);
    if (stop)
        return -ECANCELED;
    aiorbd_event_raise(&diff->event);
    return 0;
}

/* The loop's thread. The worker goes on once half of the ring is free, not for each extent. */
int aiorbd_diff_take(aiorbd_diff *diff, uint64_t *extents, int max)
{
    int taken = 0;
    pthread_mutex_lock(&diff->mutex);
    while (taken < max && diff->count) {
        const struct extent *extent = &diff->ring[diff->first];
        extents[3 * taken] = extent->offset;
        extents[3 * taken + 1] = extent->length;
        extents[3 * taken + 2] = extent->exists;
        diff->first = (diff->first + 1) % diff->capacity;
        diff->count--;
        taken++;
    }
    if (diff->count <= diff->capacity / 2)
        pthread_cond_signal(&diff->room);
    pthread_mutex_unlock(&diff->mutex);
    return taken;
}

/* Any thread. */
void aiorbd_diff_stop(aiorbd_diff *diff)
{
    pthread_mutex_lock(&diff->mutex);
    diff->stop = true;
    pthread_cond_signal(&diff->room);
    pthread_mutex_unlock(&diff->mutex);
}

/* Any thread, after the walk ended. */
void aiorbd_diff_release(aiorbd_diff *diff)
{
    aiorbd_event_release(&diff->event);
}
