/* Stands for librbd and librados where a real one cannot be made to misbehave: refuses, completes early, counts. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

struct completion {
    void *argument;
    void (*callback)(void *, void *);
    ssize_t value;
};

/* What the tests set and read. */
int fake_refuse;          /* what the next submit returns instead of taking the operation */
int fake_refuse_create;   /* what creating a completion returns */
int fake_early;           /* call back before the submit returns */
int fake_created, fake_released;
void *fake_pending[1 << 16];
int fake_pending_count;
void (*fake_update_callback)(void *);
void *fake_update_argument;
char fake_opened[256];
uint64_t fake_offset, fake_length; /* of the last call, with the flags it was given */
int fake_flags, fake_zero_flags;

static void note(uint64_t offset, uint64_t length, int flags, int zero_flags)
{
    fake_offset = offset;
    fake_length = length;
    fake_flags = flags;
    fake_zero_flags = zero_flags;
}

int rbd_aio_create_completion(void *argument, void (*callback)(void *, void *), void **out)
{
    struct completion *completion;
    if (fake_refuse_create)
        return fake_refuse_create;
    completion = calloc(1, sizeof *completion);
    completion->argument = argument;
    completion->callback = callback;
    *out = completion;
    fake_created++;
    return 0;
}

void rbd_aio_release(void *c)
{
    fake_released++;
    memset(c, 0x5a, sizeof(struct completion));
    free(c);
}

ssize_t rbd_aio_get_return_value(void *c)
{
    return ((struct completion *)c)->value;
}

void fake_complete(void *c, ssize_t value)
{
    struct completion *completion = c;
    completion->value = value;
    completion->callback(completion, completion->argument);
}

static int submit(void *completion, ssize_t value)
{
    if (fake_refuse)
        return fake_refuse;
    if (fake_early)
        fake_complete(completion, value);
    else
        fake_pending[fake_pending_count++] = completion;
    return 0;
}

static int opened(const char *how, const char *name, const char *snapshot, void **image, void *c)
{
    strcpy(fake_opened, how);
    strcat(fake_opened, name);
    strcat(fake_opened, snapshot ? snapshot : "-");
    *image = &fake_opened;
    return submit(c, 0);
}

int rbd_aio_open(void *io, const char *name, void **image, const char *snap, void *c)
{
    return opened("open:", name, snap, image, c);
}
int rbd_aio_open_by_id(void *io, const char *name, void **image, const char *snap, void *c)
{
    return opened("open_by_id:", name, snap, image, c);
}
int rbd_aio_open_read_only(void *io, const char *name, void **image, const char *snap, void *c)
{
    return opened("open_read_only:", name, snap, image, c);
}
int rbd_aio_open_by_id_read_only(void *io, const char *name, void **image, const char *snap, void *c)
{
    return opened("open_by_id_read_only:", name, snap, image, c);
}
int rbd_aio_close(void *image, void *c) { return submit(c, 0); }
int rbd_aio_flush(void *image, void *c) { return submit(c, 0); }
int rbd_aio_read2(void *image, uint64_t off, size_t len, char *buf, void *c, int flags)
{
    note(off, len, flags, 0);
    memset(buf, 'r', len);
    return submit(c, (ssize_t)len);
}
int rbd_aio_write2(void *image, uint64_t off, size_t len, const char *buf, void *c, int flags)
{
    note(off, len, flags, 0);
    return submit(c, 0);
}
static size_t total(const struct iovec *iov, int count)
{
    size_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}
int rbd_aio_readv(void *image, const struct iovec *iov, int count, uint64_t off, void *c)
{
    note(off, total(iov, count), 0, 0);
    for (int i = 0; i < count; i++)
        memset(iov[i].iov_base, '0' + i, iov[i].iov_len);
    return submit(c, (ssize_t)total(iov, count));
}
int rbd_aio_writev(void *image, const struct iovec *iov, int count, uint64_t off, void *c)
{
    note(off, total(iov, count), 0, 0);
    return submit(c, (ssize_t)total(iov, count));
}
int rbd_aio_discard(void *image, uint64_t off, uint64_t len, void *c)
{
    note(off, len, 0, 0);
    return submit(c, 0);
}
int rbd_aio_write_zeroes(void *image, uint64_t off, size_t len, void *c, int zero, int flags)
{
    note(off, len, flags, zero);
    return submit(c, zero);
}
int rbd_aio_writesame(void *image, uint64_t off, size_t len, const char *buf, size_t n, void *c, int flags)
{
    note(off, len, flags, 0);
    return submit(c, (ssize_t)n);
}
ssize_t rbd_aio_compare_and_write(void *image, uint64_t off, size_t len, const char *cmp, const char *buf,
                                  void *c, uint64_t *mismatch, int flags)
{
    note(off, len, flags, 0);
    *mismatch = 7;
    return submit(c, -EILSEQ);
}
ssize_t rbd_aio_compare_and_writev(void *image, uint64_t off, const struct iovec *cmp, int cmp_count,
                                   const struct iovec *iov, int count, void *c, uint64_t *mismatch, int flags)
{
    note(off, total(iov, count), flags, (int)total(cmp, cmp_count));
    *mismatch = 7;
    return submit(c, -EILSEQ);
}
int rbd_aio_write_with_crc32c(void *image, uint64_t off, size_t len, const char *buf, uint32_t crc, void *c, int flags)
{
    note(off, len, flags, (int)crc);
    return submit(c, 0);
}
int rbd_update_watch(void *image, uint64_t *handle, void (*callback)(void *), void *argument)
{
    if (fake_refuse)
        return fake_refuse;
    fake_update_callback = callback;
    fake_update_argument = argument;
    *handle = 11;
    return 0;
}
int rbd_update_unwatch(void *image, uint64_t handle)
{
    fake_update_callback = NULL;
    return handle == 11 ? 0 : -EINVAL;
}
void fake_update(void) { fake_update_callback(fake_update_argument); }

/* librados's completions. */
int rados_aio_create_completion2(void *argument, void (*callback)(void *, void *), void **out)
{
    return rbd_aio_create_completion(argument, callback, out);
}
void rados_aio_release(void *c) { rbd_aio_release(c); }

/* Its callback stands for a thread of librados's: the tests call it. The submitter gives its completion back at once. */
int fake_refuse_flush, fake_threads_count;
void (*fake_threads[1 << 10])(void *, void *);
void *fake_thread_arguments[1 << 10];

int rados_aio_flush_async(void *ioctx, void *c)
{
    struct completion *completion = c;
    (void)ioctx;
    if (fake_refuse_flush)
        return fake_refuse_flush;
    if (fake_early) {
        completion->callback(c, completion->argument);
        return 0;
    }
    fake_threads[fake_threads_count] = completion->callback;
    fake_thread_arguments[fake_threads_count++] = completion->argument;
    return 0;
}

void fake_run_thread(int index) { fake_threads[index](NULL, fake_thread_arguments[index]); }
int rados_aio_get_return_value(void *c) { return (int)rbd_aio_get_return_value(c); }
