/*
 * One request, one operation: allocate, create the completion, submit, undo all of it when librbd refuses.
 *
 * librbd may run the callback before its submitting function returns, and the record may be drained and freed by
 * then: nothing here touches an operation after a successful submit. A submit that fails never calls back.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

_Static_assert(sizeof(aiorbd_piece) == sizeof(struct iovec) &&
                   offsetof(aiorbd_piece, length) == offsetof(struct iovec, iov_len),
               "a piece is a struct iovec");

/* The loop's thread, or the last holder's of the bridge. */
static void free_operation(struct aiorbd_node *node)
{
    free(node);
}

/* Any thread. An image holds the bridge as well. */
static void let_go(aiorbd_bridge *bridge, aiorbd_image *image)
{
    if (image != NULL)
        aiorbd_event_release(&image->event);
    else
        aiorbd_bridge_release(bridge);
}

/* Any thread. The caller either starts the operation, or finishes or frees it. */
struct aiorbd_operation *aiorbd_operation_new(aiorbd_bridge *bridge, aiorbd_image *image, int64_t token,
                                              const aiorbd_request *request)
{
    struct aiorbd_operation *operation = malloc(sizeof *operation);
    if (operation == NULL)
        return NULL;
    *operation = (struct aiorbd_operation){
        .node = {.token = token, .taken = free_operation},
        .bridge = bridge,
        .image = image,
        .request = *request,
    };
    if (image == NULL)
        aiorbd_bridge_hold(bridge);
    else
        aiorbd_image_hold(image);
    return operation;
}

/* Any thread. The operation is completed: the record belongs to the loop from the push on. */
void aiorbd_operation_finish(struct aiorbd_operation *operation, int64_t value)
{
    aiorbd_bridge *bridge = operation->bridge;
    aiorbd_image *image = operation->image;
    operation->node.value = value;
    aiorbd_bridge_push(bridge, &operation->node);
    let_go(bridge, image);
}

/* Any thread. Free an operation that was not started, and return `code`. */
int aiorbd_operation_give_up(struct aiorbd_operation *operation, int code)
{
    let_go(operation->bridge, operation->image);
    free(operation);
    return code;
}

/* A thread of librbd's. Must stay short and never call Python: it holds up the whole connection. */
static void on_complete(void *completion, void *argument)
{
    struct aiorbd_operation *operation = argument;
    int64_t value = aiorbd_librbd.rbd_aio_get_return_value(completion);
    aiorbd_librbd.rbd_aio_release(completion);
    if (operation->request.kind < AIORBD_KINDS)
        aiorbd_tally_add(&operation->bridge->tallies[operation->request.kind], aiorbd_now() - operation->started, value,
                         operation->request.length);
    if (operation->lane != NULL)
        aiorbd_lane_over(operation, value);
    else
        aiorbd_operation_finish(operation, value);
}

/* Kinds of this file alone. Their buffers are an opening, and the image itself. */
enum { OPEN = AIORBD_KINDS, CLOSE, CALL };

struct opening {
    void *ioctx, **image;
    const char *name, *snapshot;
    int by_id, read_only;
};

static int call_open(const struct opening *o, void *completion)
{
    int (*open)(void *, const char *, void **, const char *, void *) =
        o->by_id ? (o->read_only ? aiorbd_librbd.rbd_aio_open_by_id_read_only : aiorbd_librbd.rbd_aio_open_by_id)
                 : (o->read_only ? aiorbd_librbd.rbd_aio_open_read_only : aiorbd_librbd.rbd_aio_open);
    return open(o->ioctx, o->name, o->image, o->snapshot, completion);
}

static ssize_t call_librbd(void *image, const aiorbd_request *r, void *completion)
{
    void **pointers = r->buffer;
    switch (r->kind) {
    case OPEN:
        return call_open(r->buffer, completion);
    case CLOSE:
        return aiorbd_librbd.rbd_aio_close(r->buffer, completion);
    case AIORBD_READ:
        return aiorbd_librbd.rbd_aio_read2(image, r->offset, r->length, r->buffer, completion, r->op_flags);
    case AIORBD_READV:
        return aiorbd_librbd.rbd_aio_readv(image, r->buffer, (int)r->extra, r->offset, completion);
    case AIORBD_WRITE:
        return aiorbd_librbd.rbd_aio_write2(image, r->offset, r->length, r->buffer, completion, r->op_flags);
    case AIORBD_WRITEV:
        return aiorbd_librbd.rbd_aio_writev(image, r->buffer, (int)r->extra, r->offset, completion);
    case AIORBD_DISCARD:
        return aiorbd_librbd.rbd_aio_discard(image, r->offset, r->length, completion);
    case AIORBD_WRITE_ZEROES:
        return aiorbd_librbd.rbd_aio_write_zeroes(image, r->offset, r->length, completion, (int)r->extra, r->op_flags);
    case AIORBD_WRITE_SAME:
        return aiorbd_librbd.rbd_aio_writesame(image, r->offset, r->length, r->buffer, (size_t)r->extra, completion,
                                               r->op_flags);
    case AIORBD_COMPARE_AND_WRITE:
        return aiorbd_librbd.rbd_aio_compare_and_write(image, r->offset, r->length, pointers[0], pointers[1],
                                                       completion, pointers[2], r->op_flags);
    case AIORBD_COMPARE_AND_WRITEV:
        if (aiorbd_librbd.rbd_aio_compare_and_writev == NULL)
            return -ENOSYS;
        return aiorbd_librbd.rbd_aio_compare_and_writev(image, r->offset, pointers[0], (int)(r->extra >> 32),
                                                        pointers[1], (int)(r->extra & INT32_MAX), completion,
                                                        pointers[2], r->op_flags);
    case AIORBD_WRITE_WITH_CRC32C:
        if (aiorbd_librbd.rbd_aio_write_with_crc32c == NULL)
            return -ENOSYS;
        /* With a wrong checksum, the OSD would refuse the write, and librados would send it again, for ever. */
        if (aiorbd_crc32c(r->buffer, r->length) != (uint32_t)r->extra)
            return -EBADMSG;
        return aiorbd_librbd.rbd_aio_write_with_crc32c(image, r->offset, r->length, r->buffer, ~(uint32_t)r->extra,
                                                       completion, r->op_flags);
    case AIORBD_FLUSH:
        return aiorbd_librbd.rbd_aio_flush(image, completion);
    default:
        return -EINVAL;
    }
}

static bool changes_data(int kind)
{
    return kind >= AIORBD_WRITE && kind < AIORBD_FLUSH; /* the order of the kinds in bridge.h */
}

/* Any thread. Whether the request may reach librbd: a flush does not depend on the image's size. */
static bool must_wait(aiorbd_image *image, int kind)
{
    return kind == AIORBD_FLUSH ? aiorbd_image_is_barred(image) : aiorbd_image_is_stale(image);
}

/* Any thread. Returns 0 when librbd has the operation, which then belongs to librbd's thread. */
int aiorbd_operation_start(struct aiorbd_operation *operation)
{
    const aiorbd_request *request = &operation->request;
    aiorbd_image *image = operation->image;
    void *completion;
    ssize_t submitted;
    int code = aiorbd_librbd.rbd_aio_create_completion(operation, on_complete, &completion);
    if (code < 0)
        return code;
    operation->started = aiorbd_now();
    if (changes_data(request->kind))
        aiorbd_image_add_write(image);
    submitted = call_librbd(image == NULL ? NULL : image->handle, request, completion);
    if (submitted >= 0)
        return 0;
    aiorbd_librbd.rbd_aio_release(completion);
    return (int)submitted;
}

/* Any thread. Start an operation that waited: its image may have changed meanwhile. */
int aiorbd_operation_start_late(struct aiorbd_operation *operation)
{
    aiorbd_image *image = operation->image;
    if (aiorbd_image_generation(image) != operation->generation || aiorbd_image_is_barred(image))
        return AIORBD_STALE_BY_NOW;
    return aiorbd_operation_start(operation);
}

/* Any thread. */
int aiorbd_submit(aiorbd_image *image, int64_t token, const aiorbd_request *request)
{
    struct aiorbd_operation *operation;
    int code;
    if (request->kind < 0 || request->kind >= AIORBD_KINDS)
        return -EINVAL;
    if (must_wait(image, request->kind))
        return AIORBD_STALE;
    operation = aiorbd_operation_new(image->event.bridge, image, token, request);
    if (operation == NULL)
        return -ENOMEM;
    code = aiorbd_operation_start(operation);
    return code ? aiorbd_operation_give_up(operation, code) : 0;
}

/* Any thread. Opens and closes are not counted, and depend on no size. */
static int submit_uncounted(aiorbd_bridge *bridge, int64_t token, int kind, void *argument)
{
    const aiorbd_request request = {.kind = kind, .buffer = argument};
    struct aiorbd_operation *operation = aiorbd_operation_new(bridge, NULL, token, &request);
    int code = operation == NULL ? -ENOMEM : aiorbd_operation_start(operation);
    return code && operation != NULL ? aiorbd_operation_give_up(operation, code) : code;
}

/* Any thread. */
int aiorbd_open(aiorbd_bridge *bridge, int64_t token, void *ioctx, const char *name, int by_id, const char *snapshot,
                int read_only, void **image)
{
    struct opening opening = {ioctx, image, name, snapshot, by_id, read_only};
    return submit_uncounted(bridge, token, OPEN, &opening);
}

/* Any thread. */
int aiorbd_close(aiorbd_image *image, int64_t token)
{
    return submit_uncounted(image->event.bridge, token, CLOSE, image->handle);
}

/* Any thread. */
int aiorbd_call_begin(aiorbd_bridge *bridge, int64_t token, void **operation, void **completion)
{
    const aiorbd_request request = {.kind = CALL};
    struct aiorbd_operation *begun = aiorbd_operation_new(bridge, NULL, token, &request);
    int code;
    if (begun == NULL)
        return -ENOMEM;
    code = aiorbd_librbd.rbd_aio_create_completion(begun, on_complete, completion);
    if (code < 0)
        return aiorbd_operation_give_up(begun, code);
    begun->started = aiorbd_now();
    *operation = begun;
    return 0;
}

/* The thread that began the call. */
void aiorbd_call_refused(void *operation, void *completion)
{
    aiorbd_librbd.rbd_aio_release(completion);
    aiorbd_operation_give_up(operation, 0);
}
