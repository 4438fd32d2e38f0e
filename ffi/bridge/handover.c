/*
 * Small reads and writes that the tasks of one pass of the loop ask for. At the end of the pass one of librbd's own
 * threads gets them all, and submits them at once. A submit from such a thread wakes no other thread, and a submit
 * from the loop's thread wakes one each time. No request waits for the completion of another request. librados calls back for a flush of an I/O context without
 * writes as soon as one of its threads is free, and each submit needs such a thread as well.
 */
#include <errno.h>

#include "internal.h"

/* Bytes: librbd copies the data of a write in the submit, and its threads have other work. */
enum { SMALL = 65536 };

/* Any thread. A request that is refused here has its record from here. */
static void submit_all(struct aiorbd_operation *operation)
{
    while (operation != NULL) {
        struct aiorbd_operation *next = operation->next; /* the operation may be freed before its submit returns */
        int code = aiorbd_operation_start_late(operation);
        if (code)
            aiorbd_operation_finish(operation, code);
        operation = next;
    }
}

/* A thread of librados's, which is one of librbd's. */
static void on_thread(void *completion, void *argument)
{
    (void)completion;
    submit_all(argument);
}

/* The loop's thread. Returns whether a thread of librbd's has the requests, or will have them at once. */
static bool hand_over(struct aiorbd_operation *first)
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
int aiorbd_submit_in_pass(aiorbd_image *image, int64_t token, const aiorbd_request *request)
{
    struct aiorbd_pass *pass = &image->event.bridge->pass;
    bool joins = pass->running && image->ioctx != NULL && request->length <= SMALL &&
                 (request->kind == AIORBD_READ || request->kind == AIORBD_WRITE);
    const uint64_t generation = aiorbd_image_generation(image); /* before the look: a change after it is noticed */
    struct aiorbd_operation *operation;
    if (!joins)
        return aiorbd_submit(image, token, request);
    if (aiorbd_image_is_stale(image))
        return AIORBD_STALE;
    operation = aiorbd_operation_new(image->event.bridge, image, token, request);
    if (operation == NULL)
        return -ENOMEM;
    operation->generation = generation;
    *(pass->first == NULL ? &pass->first : &pass->last->next) = operation;
    pass->last = operation;
    return 0;
}

/* The loop's thread. A single request is submitted here: another thread would have to be woken for it all the same. */
void aiorbd_pass_end(struct aiorbd_pass *pass)
{
    struct aiorbd_operation *first = pass->first;
    *pass = (struct aiorbd_pass){.running = false};
    if (first != NULL && (first->next == NULL || !hand_over(first)))
        submit_all(first);
}
