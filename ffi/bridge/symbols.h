/*
 * The few functions of librbd and librados that the bridge calls itself, found at run time so that neither a header
 * nor a library of Ceph's is needed to build. A test compiles this list together with the installed headers. All of
 * them are in every release since 16.2, except the later ones, which may be NULL.
 */
#ifndef AIORBD_SYMBOLS_H
#define AIORBD_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define AIORBD_LIBRBD_SYMBOLS(X)                                                                                       \
    X(int, rbd_aio_create_completion, (void *, void (*)(void *, void *), void **))                                     \
    X(void, rbd_aio_release, (void *))                                                                                 \
    X(ssize_t, rbd_aio_get_return_value, (void *))                                                                     \
    X(int, rbd_aio_open, (void *, const char *, void **, const char *, void *))                                        \
    X(int, rbd_aio_open_by_id, (void *, const char *, void **, const char *, void *))                                  \
    X(int, rbd_aio_open_read_only, (void *, const char *, void **, const char *, void *))                              \
    X(int, rbd_aio_open_by_id_read_only, (void *, const char *, void **, const char *, void *))                        \
    X(int, rbd_aio_close, (void *, void *))                                                                            \
    X(int, rbd_aio_read2, (void *, uint64_t, size_t, char *, void *, int))                                             \
    X(int, rbd_aio_readv, (void *, const struct iovec *, int, uint64_t, void *))                                       \
    X(int, rbd_aio_write2, (void *, uint64_t, size_t, const char *, void *, int))                                      \
    X(int, rbd_aio_writev, (void *, const struct iovec *, int, uint64_t, void *))                                      \
    X(int, rbd_aio_discard, (void *, uint64_t, uint64_t, void *))                                                      \
    X(int, rbd_aio_write_zeroes, (void *, uint64_t, size_t, void *, int, int))                                         \
    X(int, rbd_aio_writesame, (void *, uint64_t, size_t, const char *, size_t, void *, int))                           \
    X(ssize_t, rbd_aio_compare_and_write,                                                                              \
      (void *, uint64_t, size_t, const char *, const char *, void *, uint64_t *, int))                                 \
    X(int, rbd_aio_flush, (void *, void *))                                                                            \
    X(int, rbd_update_watch, (void *, uint64_t *, void (*)(void *), void *))                                           \
    X(int, rbd_update_unwatch, (void *, uint64_t))

#define AIORBD_LATER_LIBRBD_SYMBOLS(X)                                                                                 \
    X(ssize_t, rbd_aio_compare_and_writev,                                                                             \
      (void *, uint64_t, const struct iovec *, int, const struct iovec *, int, void *, uint64_t *, int))               \
    X(int, rbd_aio_write_with_crc32c, (void *, uint64_t, size_t, const char *, uint32_t, void *, int))

#define AIORBD_LIBRADOS_SYMBOLS(X)                                                                                     \
    X(int, rados_aio_create_completion2, (void *, void (*)(void *, void *), void **))                                  \
    X(int, rados_aio_flush_async, (void *, void *))                                                                    \
    X(void, rados_aio_release, (void *))                                                                               \
    X(int, rados_aio_get_return_value, (void *))

#define AIORBD_MEMBER(result, name, arguments) result(*name) arguments;
extern struct aiorbd_librbd {
    AIORBD_LIBRBD_SYMBOLS(AIORBD_MEMBER) AIORBD_LATER_LIBRBD_SYMBOLS(AIORBD_MEMBER)
} aiorbd_librbd;

extern struct aiorbd_librados {
    AIORBD_LIBRADOS_SYMBOLS(AIORBD_MEMBER)
} aiorbd_librados;
#undef AIORBD_MEMBER

#endif
