/*
 * One C call an operation: allocate, create the completion, submit, unwind when librbd refuses.
 *
 * librbd may run the callback before its submitting function returns, and the callback frees the
 * operation's record with the drain that follows: nothing here touches it after a successful
 * submit. A submit that fails never calls back.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

struct operation {
    struct aiorbd_node node; /* first: freed through it */
    aiorbd_bridge *bridge;
    struct aiorbd_tally *tally; /* may be NULL */
    uint64_t started; /* nanoseconds */
    uint64_t bytes;
    struct iovec vector[]; /* librbd reads the array of a readv at completion */
};

struct submission {
    struct operation *operation;
    void *completion;
};

/* The loop's thread. */
static void free_operation(struct aiorbd_node *node)
{
    free(node);
}

/* A thread of librbd's. Must stay short and never call Python: it holds up the whole connection. */
static void on_complete(void *completion, void *argument)
{
    struct operation *operation = argument;
    aiorbd_bridge *bridge = operation->bridge;
    operation->node.value = aiorbd_librbd.rbd_aio_get_return_value(completion);
    if (operation->tally != NULL)
        aiorbd_tally_add(operation->tally, aiorbd_now() - operation->started, operation->node.value,
                         operation->bytes);
    aiorbd_librbd.rbd_aio_release(completion);
    aiorbd_bridge_push(bridge, &operation->node);
    aiorbd_bridge_release(bridge);
}

/* Any thread. */
static int prepare(struct submission *submission, aiorbd_bridge *bridge, int64_t token,
                   struct aiorbd_tally *tally, uint64_t bytes, int vectors)
{
    struct operation *operation =
        malloc(sizeof *operation + (size_t)vectors * sizeof operation->vector[0]);
    int code;
    if (operation == NULL)
        return -ENOMEM;
    operation->node.token = token;
    operation->node.taken = free_operation;
    operation->bridge = bridge;
    operation->tally = tally;
    operation->bytes = bytes;
    operation->started = aiorbd_now();
    code = aiorbd_librbd.rbd_aio_create_completion(operation, on_complete, &submission->completion);
    if (code < 0) {
        free(operation);
        return code;
    }
    aiorbd_bridge_hold(bridge);
    submission->operation = operation;
    return 0;
}

/* Any thread. Undoes prepare() when librbd refused. */
static int conclude(const struct submission *submission, ssize_t code)
{
    if (code >= 0)
        return 0;
    aiorbd_librbd.rbd_aio_release(submission->completion);
    aiorbd_bridge_release(submission->operation->bridge);
    free(submission->operation);
    return (int)code;
}

/* Any thread. */
static int begin(struct submission *submission, aiorbd_bridge *bridge, int64_t token, int kind,
                 uint64_t bytes, int vectors)
{
    int code = prepare(submission, bridge, token, aiorbd_bridge_tally(bridge, kind), bytes, vectors);
    if (!code)
        aiorbd_bridge_set_submitted(bridge, token);
    return code;
}

/* Any thread. Undoes begin() when librbd refused. */
static int end(const struct submission *submission, ssize_t code)
{
    if (code < 0)
        aiorbd_bridge_set_submitted(submission->operation->bridge, 0);
    return conclude(submission, code);
}

/* Any thread. For calls that depend on the image's size. */
static int begin_io(struct submission *submission, aiorbd_image *image, int64_t token, int kind,
                    uint64_t bytes, int vectors)
{
    if (aiorbd_image_is_stale(image))
        return AIORBD_STALE;
    if (kind != AIORBD_READ && kind != AIORBD_READV)
        aiorbd_image_add_write(image);
    return begin(submission, image->event.bridge, token, kind, bytes, vectors);
}

static uint64_t total(const size_t *lengths, int count)
{
    uint64_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += lengths[i];
    return sum;
}

/* Any thread. */
int aiorbd_open(aiorbd_bridge *bridge, int64_t token, void *ioctx, const char *name, int by_id,
                const char *snapshot, int read_only, void **image)
{
    struct submission s;
    int (*open)(void *, const char *, void **, const char *, void *) =
        by_id ? (read_only ? aiorbd_librbd.rbd_aio_open_by_id_read_only : aiorbd_librbd.rbd_aio_open_by_id)
              : (read_only ? aiorbd_librbd.rbd_aio_open_read_only : aiorbd_librbd.rbd_aio_open);
    int code = prepare(&s, bridge, token, NULL, 0, 0);
    if (code)
        return code;
    return conclude(&s, open(ioctx, name, image, snapshot, s.completion));
}

/* Any thread. */
int aiorbd_close(aiorbd_image *image, int64_t token)
{
    struct submission s;
    int code = prepare(&s, image->event.bridge, token, NULL, 0, 0);
    if (code)
        return code;
    return conclude(&s, aiorbd_librbd.rbd_aio_close(image->handle, s.completion));
}

int aiorbd_read(aiorbd_image *image, int64_t token, uint64_t offset, size_t length, void *buffer,
                int op_flags)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_READ, length, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_read2(image->handle, offset, length, buffer, s.completion,
                                               op_flags));
}

static void fill_vector(struct operation *operation, void **buffers, const size_t *lengths, int count)
{
    for (int i = 0; i < count; i++) {
        operation->vector[i].iov_base = buffers[i];
        operation->vector[i].iov_len = lengths[i];
    }
}

int aiorbd_readv(aiorbd_image *image, int64_t token, uint64_t offset, void **buffers,
                 size_t *lengths, int count)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_READV, total(lengths, count), count);
    if (code)
        return code;
    fill_vector(s.operation, buffers, lengths, count);
    return end(&s, aiorbd_librbd.rbd_aio_readv(image->handle, s.operation->vector, count, offset,
                                               s.completion));
}

int aiorbd_write(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                 const void *buffer, int op_flags)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_WRITE, length, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_write2(image->handle, offset, length, buffer, s.completion,
                                                op_flags));
}

int aiorbd_writev(aiorbd_image *image, int64_t token, uint64_t offset, void **buffers,
                  size_t *lengths, int count)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_WRITEV, total(lengths, count), count);
    if (code)
        return code;
    fill_vector(s.operation, buffers, lengths, count);
    return end(&s, aiorbd_librbd.rbd_aio_writev(image->handle, s.operation->vector, count, offset,
                                                s.completion));
}

int aiorbd_discard(aiorbd_image *image, int64_t token, uint64_t offset, uint64_t length)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_DISCARD, length, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_discard(image->handle, offset, length, s.completion));
}

int aiorbd_write_zeroes(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                        int zero_flags, int op_flags)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_WRITE_ZEROES, length, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_write_zeroes(image->handle, offset, length, s.completion,
                                                      zero_flags, op_flags));
}

int aiorbd_write_same(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                      const void *buffer, size_t buffer_length, int op_flags)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_WRITE_SAME, length, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_writesame(image->handle, offset, length, buffer,
                                                   buffer_length, s.completion, op_flags));
}

int aiorbd_compare_and_write(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                             const void *compare, const void *buffer, uint64_t *mismatch_offset,
                             int op_flags)
{
    struct submission s;
    int code = begin_io(&s, image, token, AIORBD_COMPARE_AND_WRITE, length, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_compare_and_write(image->handle, offset, length, compare,
                                                           buffer, s.completion, mismatch_offset,
                                                           op_flags));
}

int aiorbd_flush(aiorbd_image *image, int64_t token)
{
    struct submission s;
    int code = aiorbd_image_is_barred(image) ? AIORBD_STALE
                                             : begin(&s, image->event.bridge, token, AIORBD_FLUSH, 0, 0);
    if (code)
        return code;
    return end(&s, aiorbd_librbd.rbd_aio_flush(image->handle, s.completion));
}
