/* A request of a lane or of a pass, which librbd's threads may submit as well: its submit, and its end. */
#include "internal.h"

/* Any thread. After a success the request belongs to librbd's thread. */
int aiorbd_request_submit(aiorbd_image *image, struct aiorbd_request *request,
                          void (*on_complete)(void *, void *), void *argument)
{
    void *handle = image->handle;
    void *completion;
    ssize_t submitted;
    int code;
    if (aiorbd_image_generation(image) != request->generation || aiorbd_image_is_barred(image))
        return AIORBD_STALE_BY_NOW;
    code = aiorbd_librbd.rbd_aio_create_completion(argument, on_complete, &completion);
    if (code < 0)
        return code;
    request->started = aiorbd_now();
    if (request->kind != AIORBD_READ)
        aiorbd_image_add_write(image);
    if (request->kind == AIORBD_READ)
        submitted = aiorbd_librbd.rbd_aio_read2(handle, request->offset, request->length,
                                                request->buffer, completion, request->op_flags);
    else if (request->kind == AIORBD_WRITE)
        submitted = aiorbd_librbd.rbd_aio_write2(handle, request->offset, request->length,
                                                 request->buffer, completion, request->op_flags);
    else
        submitted = aiorbd_librbd.rbd_aio_write_zeroes(handle, request->offset, request->length,
                                                       completion, 0, request->op_flags);
    if (submitted >= 0)
        return 0;
    aiorbd_librbd.rbd_aio_release(completion);
    return (int)submitted;
}

/* A thread of librbd's: count it, and return librbd's value. */
int64_t aiorbd_request_over(const struct aiorbd_request *request, aiorbd_bridge *bridge, void *completion)
{
    int64_t value = aiorbd_librbd.rbd_aio_get_return_value(completion);
    aiorbd_tally_add(aiorbd_bridge_tally(bridge, request->kind), aiorbd_now() - request->started, value,
                     request->length);
    aiorbd_librbd.rbd_aio_release(completion);
    return value;
}
