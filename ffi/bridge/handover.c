/*
 * Small reads and writes that the tasks of one pass of the loop ask for. At the end of the pass one of librbd's own
 * threads gets them all, and submits them at once. A submit from such a thread wakes no other thread, and a submit
 * from the loop's thread wakes one each time.
 *
 * No request waits for the completion of another one, nor for anything else that may not come: librados calls back
 * for a flush of an I/O context without writes as soon as a thread is free, which is what each submit needs as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

/* Bytes: librbd copies what is written in the submit, and its threads have other work. */
enum { SMALL = 65536 };

struct handed {
    struct aiorbd_node node; /* first: freed through it */
    struct aiorbd_request request;
    aiorbd_image *image; /* held */
    struct handed *next; /* of the same pass */
};

/* The loop's thread, or the last holder's of the bridge. */
static void free_handed(struct aiorbd_node *node)
{
    free(node);
}

/* Any thread. The record belongs to the loop from the push on. */
static void finish(struct handed *one, int64_t value)
{
    aiorbd_image *image = one->image;
    one->node.value = value;
    aiorbd_bridge_push(image->event.bridge, &one->node);
    aiorbd_event_release(&image->event);
}

/* A thread of librbd's. */
static void on_complete(void *completion, void *argument)
{
    struct handed *one = argument;
    finish(one, aiorbd_request_over(&one->request, one->image->event.bridge, completion));
}

/* Any thread. A request that is refused has its record from here. */
static void submit_all(struct handed *one)
{
    while (one != NULL) {
        struct handed *next = one->next; /* it may be over, and gone, before its submit returns */
        int code = aiorbd_request_submit(one->image, &one->request, on_complete, one);
        if (code)
            finish(one, code);
        one = next;
    }
}

/* A thread of librados's, which is one of librbd's. */
static void on_thread(void *completion, void *argument)
{
    (void)completion;
    submit_all(argument);
}

/* The loop's thread. Returns whether a thread of librbd's has the requests, or will have them at once. */
static bool hand_over(struct handed *first)
{
    void *ioctx = first->image->ioctx, *completion;
    int code;
    if (aiorbd_librados.rados_aio_create_completion2(first, on_thread, &completion) < 0)
        return false;
    code = aiorbd_librados.rados_aio_flush_async(ioctx, completion);
    aiorbd_librados.rados_aio_release(completion); /* librados holds it until it has called back */
    return code >= 0;
}

/* The loop's thread. */
int aiorbd_pass_submit(aiorbd_image *image, int64_t token, int kind, uint64_t offset, size_t length, void *buffer)
{
    uint64_t generation = aiorbd_image_generation(image);
    struct aiorbd_pass *pass = aiorbd_bridge_pass(image->event.bridge);
    struct handed *one;
    int code;
    if (aiorbd_image_is_stale(image))
        return AIORBD_STALE;
    one = malloc(sizeof *one);
    if (one == NULL)
        return -ENOMEM;
    *one = (struct handed){
        .node = {.token = token, .taken = free_handed},
        .request = {.kind = kind, .offset = offset, .length = length, .buffer = buffer, .generation = generation},
        .image = image,
    };
    /* Another owner of the image, which holds the bridge as well. */
    atomic_fetch_add_explicit(&image->event.references, 1, memory_order_relaxed);
    aiorbd_bridge_hold(image->event.bridge);
    if (pass->running && length <= SMALL && image->ioctx != NULL) {
        *(pass->first == NULL ? &pass->first : &pass->last->next) = one;
        pass->last = one;
        return 0;
    }
    code = aiorbd_request_submit(image, &one->request, on_complete, one);
    if (!code)
        return 0;
    free(one);
    aiorbd_event_release(&image->event);
    return code == AIORBD_STALE_BY_NOW ? AIORBD_STALE : code;
}

/* The loop's thread. A single request is submitted here: another thread would have to be woken for it all the same. */
void aiorbd_pass_end(struct aiorbd_pass *pass)
{
    struct handed *first = pass->first;
    *pass = (struct aiorbd_pass){.running = false};
    if (first != NULL && (first->next == NULL || !hand_over(first)))
        submit_all(first);
}
