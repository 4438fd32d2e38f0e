/*
 * The compiled bridge: its whole face.
 *
 * librbd runs callbacks on two threads of its own. What this file declares keeps those threads out
 * of Python: a callback stores its result, links one record into a lock-free list and, when the
 * list was empty, writes one eventfd. The event loop's thread then drains records in batches.
 *
 * The builder reads this very text as cffi declarations (lines that begin with '#' left out), so it
 * holds plain C only. "Loop" in the comments is the thread of the event loop, "any" means what it
 * says. Every function that can fail returns a negative errno.
 */
#ifndef AIORBD_BRIDGE_H
#define AIORBD_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct aiorbd_bridge aiorbd_bridge;
typedef struct aiorbd_image aiorbd_image;
typedef struct aiorbd_progress aiorbd_progress;

/*
 * Find librbd's functions. Thread: any, with the GIL's order (once, before all else). Returns NULL,
 * or the dynamic linker's message, which stays valid.
 */
const char *aiorbd_load(const char *librbd);

/*
 * The queue. A record is two integers: the token somebody chose, and a value. The creator owns one
 * reference; each operation in flight, each image and each progress slot holds another, so the
 * memory and the descriptor go when the last of them is done, wherever that is.
 */
aiorbd_bridge *aiorbd_bridge_new(void);                /* any; NULL with errno set */
void aiorbd_bridge_release(aiorbd_bridge *bridge);     /* any; the creator's reference */
int aiorbd_bridge_fd(const aiorbd_bridge *bridge);     /* any; readable when there are records */
/* Loop. Empty the eventfd, then copy up to `max` records out, oldest first, as token, value, token,
 * value, ... Signals itself again when more are left. Returns how many records. */
int aiorbd_bridge_drain(aiorbd_bridge *bridge, int64_t *records, int max);
int aiorbd_bridge_post(aiorbd_bridge *bridge, int64_t token, int64_t value); /* any; -ENOMEM */

/*
 * Images. An aiorbd_image stands for an open rbd_image_t, which it does not own, and knows whether
 * the image's header changed since somebody looked: then an operation that depends on the size is
 * refused with AIORBD_STALE until somebody took the generation, asked for the size, and said that it
 * is known now: a change in between leaves the image stale. A new image is.
 */
enum { AIORBD_STALE = 1 };

aiorbd_image *aiorbd_image_new(aiorbd_bridge *bridge, void *handle, int64_t token); /* any */
int aiorbd_image_watch(aiorbd_image *image);   /* worker: may wait for the network */
int aiorbd_image_unwatch(aiorbd_image *image); /* worker: waits for a callback that is running */
uint64_t aiorbd_image_generation(aiorbd_image *image);  /* any; one more with each change */
void aiorbd_image_set_known(aiorbd_image *image, uint64_t generation); /* any; its size is known */
int aiorbd_image_is_stale(aiorbd_image *image); /* any; the size of the generation is not known */
void aiorbd_image_changed(aiorbd_image *image); /* any; as if librbd had told of a change */
void aiorbd_image_release(aiorbd_image *image); /* any; after unwatch */

/*
 * Submit. Thread: loop (any would do). Returns 0 when librbd took the operation: a record with
 * `token` and librbd's return value will come, exactly once, perhaps before this returns. Anything
 * else means that nothing was queued and no record will come. Buffers, and what out-parameters
 * point to, are the caller's and must live until the record is there.
 */
int aiorbd_open(aiorbd_bridge *bridge, int64_t token, void *ioctx, const char *name, int by_id,
                const char *snapshot, int read_only, void **image);
int aiorbd_close(aiorbd_image *image, int64_t token);
int aiorbd_read(aiorbd_image *image, int64_t token, uint64_t offset, size_t length, void *buffer,
                int op_flags);
int aiorbd_readv(aiorbd_image *image, int64_t token, uint64_t offset, void **buffers,
                 size_t *lengths, int count);
int aiorbd_write(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                 const void *buffer, int op_flags);
int aiorbd_writev(aiorbd_image *image, int64_t token, uint64_t offset, void **buffers,
                  size_t *lengths, int count);
int aiorbd_discard(aiorbd_image *image, int64_t token, uint64_t offset, uint64_t length);
int aiorbd_write_zeroes(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                        int zero_flags, int op_flags);
int aiorbd_write_same(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                      const void *buffer, size_t buffer_length, int op_flags);
int aiorbd_compare_and_write(aiorbd_image *image, int64_t token, uint64_t offset, size_t length,
                             const void *compare, const void *buffer, uint64_t *mismatch_offset,
                             int op_flags);
int aiorbd_flush(aiorbd_image *image, int64_t token);

/*
 * Progress of a blocking call that runs on a worker thread. librbd calls the function behind
 * aiorbd_progress_callback() with the slot as its argument, from whatever thread it likes; records
 * with `token` say that there is news, several reports in one where the loop was slower.
 */
aiorbd_progress *aiorbd_progress_new(aiorbd_bridge *bridge, int64_t token); /* any */
void *aiorbd_progress_callback(void);  /* any; a librbd_progress_fn_t */
void aiorbd_progress_read(aiorbd_progress *slot, uint64_t *done_total); /* any; two numbers */
void aiorbd_progress_stop(aiorbd_progress *slot);    /* any; the next report returns -ECANCELED */
void aiorbd_progress_release(aiorbd_progress *slot); /* any; after the blocking call returned */

#endif
