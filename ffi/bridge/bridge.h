/*
 * The compiled bridge: its whole face.
 *
 * librbd runs callbacks on two threads of its own. What this file declares keeps those threads out of Python: a
 * callback stores its result, links one record into a lock-free list and, when the loop sleeps, writes one eventfd.
 * The event loop's thread then drains records in batches.
 *
 * The builder reads this very text as cffi declarations (lines that begin with '#' left out), so it holds plain C
 * only. "Loop" in the comments is the thread of the event loop, "any" means any thread. Every function that can fail
 * returns a negative errno.
 */
#ifndef AIORBD_BRIDGE_H
#define AIORBD_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct aiorbd_bridge aiorbd_bridge;
typedef struct aiorbd_image aiorbd_image;
typedef struct aiorbd_lane aiorbd_lane;
typedef struct aiorbd_progress aiorbd_progress;
typedef struct aiorbd_diff aiorbd_diff;
typedef struct aiorbd_quiesce aiorbd_quiesce;
typedef struct aiorbd_mailbox aiorbd_mailbox;
typedef struct aiorbd_completion aiorbd_completion;

/* Find the libraries' functions. Thread: any, one at a time, before all else. Returns NULL, or the dynamic linker's
 * message, which stays valid. */
const char *aiorbd_load(const char *librbd, const char *librados);

/* For a process that ends with connections open. exit() destroys the global objects of Ceph's libraries, which the
 * threads of an open connection still use: they would crash the process. After this call, exit() flushes stdout and
 * stderr and ends the process with its status, without the handlers that were registered before. Thread: any. */
void aiorbd_exit_at_once(void);

/*
 * The queue. A record is two integers: a token that the caller chose, and a value. The creator owns one reference;
 * each operation in flight, each image and each progress slot holds another, so the memory and the descriptor go when
 * the last of them is done, wherever that is.
 */
aiorbd_bridge *aiorbd_bridge_new(void);            /* any; NULL with errno set */
void aiorbd_bridge_release(aiorbd_bridge *bridge); /* any; the creator's reference */
int aiorbd_bridge_fd(const aiorbd_bridge *bridge); /* any; readable when there are records */
/* Loop. Begin: empty the eventfd; no thread writes to it from here on. Take: copy up to `max` records out, oldest
 * first: how many, which is returned as well, then token, value, token, value, ... End: a push from here on writes to
 * the eventfd; signals itself when records are left. Each begin needs an end, or a wake, which makes another pass
 * sure; both submit the requests of the pass. */
void aiorbd_bridge_begin(aiorbd_bridge *bridge);
int aiorbd_bridge_take(aiorbd_bridge *bridge, int64_t *records, int max);
void aiorbd_bridge_end(aiorbd_bridge *bridge);
/* Loop. End in two steps, where the tasks of the pass run after the drain: rest, and then, certainly, submit. */
void aiorbd_bridge_rest(aiorbd_bridge *bridge);
void aiorbd_bridge_submit_pass(aiorbd_bridge *bridge);
void aiorbd_bridge_wake(aiorbd_bridge *bridge);
int aiorbd_bridge_post(aiorbd_bridge *bridge, int64_t token, int64_t value); /* any; -ENOMEM */

/* The completed requests by kind, since the bridge was made. Time runs from the submit to librbd's callback. Bucket 0
 * counts requests of less than a microsecond, bucket n of less than 2^n, the last all longer ones. */
enum {
    AIORBD_READ,
    AIORBD_READV,
    AIORBD_WRITE,
    AIORBD_WRITEV,
    AIORBD_DISCARD,
    AIORBD_WRITE_ZEROES,
    AIORBD_WRITE_SAME,
    AIORBD_COMPARE_AND_WRITE,
    AIORBD_COMPARE_AND_WRITEV,
    AIORBD_WRITE_WITH_CRC32C,
    AIORBD_FLUSH,
    AIORBD_KINDS
};
enum { AIORBD_BUCKETS = 28 };

typedef struct {
    uint64_t done, failed, bytes, nanoseconds;
    uint64_t buckets[AIORBD_BUCKETS];
} aiorbd_counts;

void aiorbd_bridge_counts(const aiorbd_bridge *bridge, int kind, aiorbd_counts *counts); /* any */
/* Loop. How often a drain found something, and how many records all of them took. */
void aiorbd_bridge_drained(const aiorbd_bridge *bridge, uint64_t *wakeups_records);

/*
 * Images. An aiorbd_image stands for an open rbd_image_t, which it does not own, and knows whether the image's header
 * changed since the caller asked for the size: then a request that depends on the size is refused with AIORBD_STALE.
 * The caller takes the generation, asks for the size, and sets the generation as known. A change in between leaves
 * the image stale. A new image is.
 */
enum { AIORBD_STALE = 1, AIORBD_STALE_BY_NOW = -1000000 };

/* Any. `ioctx` is a rados_ioctx_t of the image's cluster without writes, for aiorbd_submit_in_pass(), or NULL. */
aiorbd_image *aiorbd_image_new(aiorbd_bridge *bridge, void *handle, void *ioctx, int64_t token);
int aiorbd_image_watch(aiorbd_image *image);           /* worker: may wait for the network */
int aiorbd_image_unwatch(aiorbd_image *image);         /* worker: waits for a callback that is running */
uint64_t aiorbd_image_generation(aiorbd_image *image); /* any; one more with each change */
void aiorbd_image_set_known(aiorbd_image *image, uint64_t generation); /* any; its size is known */
int aiorbd_image_is_stale(aiorbd_image *image); /* any; the size of the generation is not known */
void aiorbd_image_changed(aiorbd_image *image); /* any; as if librbd had reported a change */
/* Any. While the image is barred, reads, writes and flushes are refused with AIORBD_STALE as well. */
void aiorbd_image_bar(aiorbd_image *image, int barred);
int aiorbd_image_is_barred(aiorbd_image *image);
/* Any. How many writes were submitted; and count one that librbd makes in another call. */
uint64_t aiorbd_image_writes(aiorbd_image *image);
void aiorbd_image_add_write(aiorbd_image *image);
void aiorbd_image_release(aiorbd_image *image); /* any; after unwatch */

/*
 * One request of an image. What `buffer` and `extra` are depends on the kind:
 *
 *   READ, WRITE          the data; nothing
 *   READV, WRITEV        an array of pieces; how many
 *   WRITE_SAME           the data; how many bytes it has
 *   WRITE_ZEROES         nothing; librbd's zero flags
 *   COMPARE_AND_WRITE    three pointers: the data to compare, the new data, and where the offset of a mismatch goes
 *   COMPARE_AND_WRITEV   the same with two arrays of pieces; how many, those to compare in the upper 32 bits
 *   WRITE_WITH_CRC32C    the data; its checksum, which is checked: -EBADMSG
 *   DISCARD, FLUSH       nothing
 */
typedef struct {
    int kind, op_flags;
    uint64_t offset, length;
    void *buffer;
    int64_t extra;
} aiorbd_request;

/* The same as a struct iovec. */
typedef struct {
    void *base;
    size_t length;
} aiorbd_piece;

/*
 * Submit a request. librbd copies the data of a write before this returns. Returns 0 when librbd took the request: a
 * record with `token` and librbd's return value will come, exactly once, perhaps before this returns. Anything else
 * means that nothing was queued and no record will come. The request itself is copied; the memory behind its pointers
 * is the caller's and must live until the record is there.
 */
int aiorbd_submit(aiorbd_image *image, int64_t token, const aiorbd_request *request); /* any */

/*
 * The same, for requests of many tasks at once. Small reads and writes that are submitted from aiorbd_bridge_begin()
 * until aiorbd_bridge_end() or aiorbd_bridge_submit_pass() are handed to one of librbd's threads by that call. A
 * request that is refused there, or whose image is stale by then (AIORBD_STALE_BY_NOW), has that code as its record's
 * value, and did not reach librbd.
 */
int aiorbd_submit_in_pass(aiorbd_image *image, int64_t token, const aiorbd_request *request); /* loop */

/*
 * A lane: requests of one image of which `depth` are with librbd at a time. The others wait, and are submitted by
 * librbd's threads, each when another ends. Their records come like all others, but the loop is woken when `bulk` are
 * over, or when nothing waits any more. The value of a request that waited is also -ECANCELED, when it was cancelled,
 * or the value of a late refusal, as for requests that are handed over.
 */
aiorbd_lane *aiorbd_lane_new(aiorbd_image *image, int depth, int bulk);                  /* any; NULL */
int aiorbd_lane_submit(aiorbd_lane *lane, int64_t token, const aiorbd_request *request); /* any */
void aiorbd_lane_wait(aiorbd_lane *lane);    /* loop; wake it in bulk; aiorbd_lane_hurry() must follow after a while */
void aiorbd_lane_hurry(aiorbd_lane *lane);   /* loop; wake it for completed requests, and for each one from now on */
void aiorbd_lane_cancel(aiorbd_lane *lane);  /* any; cancel the waiting requests */
void aiorbd_lane_release(aiorbd_lane *lane); /* any; the creator's reference */

/* Open and close an image. librbd takes milliseconds to submit these. They are not counted. */
int aiorbd_open(aiorbd_bridge *bridge, int64_t token, void *ioctx, const char *name, int by_id, const char *snapshot,
                int read_only, void **image);
int aiorbd_close(aiorbd_image *image, int64_t token);

/*
 * An asynchronous call that the bridge does not know. Begin gives librbd's completion for the submit. When librbd
 * refuses the submit, say so: then no record will come. Otherwise a record with `token` comes, exactly once, perhaps
 * before the submit returns. These calls are not counted.
 */
int aiorbd_call_begin(aiorbd_bridge *bridge, int64_t token, void **operation, void **completion); /* any */
void aiorbd_call_refused(void *operation, void *completion);                                      /* the same thread */

/*
 * Progress of a blocking call that runs on a worker thread. librbd calls the function behind aiorbd_on_progress()
 * with the slot as its argument, from any thread; records with `token` say that there is news, several reports in one
 * where the loop was slower.
 */
aiorbd_progress *aiorbd_progress_new(aiorbd_bridge *bridge, int64_t token); /* any */
int aiorbd_on_progress(uint64_t done, uint64_t total, void *slot);          /* a librbd_progress_fn_t */
void aiorbd_progress_read(aiorbd_progress *slot, uint64_t *done_total);     /* any; two numbers */
void aiorbd_progress_stop(aiorbd_progress *slot);    /* any; the next report returns -ECANCELED */
void aiorbd_progress_release(aiorbd_progress *slot); /* any; after the blocking call returned */

/* The requests of other clients to quiesce, and their ends, counted. Records with `token` say that there is news. The
 * two callbacks are rbd_update_callback_t, whose argument is the object. */
aiorbd_quiesce *aiorbd_quiesce_new(aiorbd_bridge *bridge, int64_t token); /* any */
void aiorbd_on_quiesce(void *quiesce);
void aiorbd_on_unquiesce(void *quiesce);
void aiorbd_quiesce_read(aiorbd_quiesce *quiesce, uint64_t *requests_ends); /* any; two numbers */
void aiorbd_quiesce_release(aiorbd_quiesce *quiesce);                       /* any; after librbd forgot the watch */

/* Extents of a diff that a worker thread walks. aiorbd_on_extent() waits when `capacity` of them are not taken yet;
 * records with `token` say that there are some. */
aiorbd_diff *aiorbd_diff_new(aiorbd_bridge *bridge, int64_t token, unsigned capacity); /* any */
int aiorbd_on_extent(uint64_t offset, size_t length, int exists, void *diff);          /* for rbd_diff_iterate2() */
/* Loop. Up to `max` extents as offset, length, whether there is data. Returns how many. */
int aiorbd_diff_take(aiorbd_diff *diff, uint64_t *extents, int max);
void aiorbd_diff_stop(aiorbd_diff *diff);    /* any; the next extent returns -ECANCELED */
void aiorbd_diff_release(aiorbd_diff *diff); /* any; after the walk ended */

/*
 * Messages of librados's, copied; at most `room` of them wait, and 64 MiB; more are lost and counted. Records with
 * `token` say that there is news. A notification has the notify id, the watch's cookie and the notifier's id as its
 * numbers, and the payload as its data; a line of the log has seconds, nanoseconds and sequence, and channel, who,
 * name, level and text, each with its NUL.
 */
enum { AIORBD_MESSAGE_NUMBERS = 3 };

aiorbd_mailbox *aiorbd_mailbox_new(aiorbd_bridge *bridge, int64_t token, int room); /* any */
/* A rados_watchcb2_t, a rados_watcherrcb_t and a rados_log_callback2_t, whose argument is the mailbox. */
void aiorbd_on_notify(void *mailbox, uint64_t notify_id, uint64_t cookie, uint64_t notifier_id, void *data,
                      size_t length);
void aiorbd_on_watch_error(void *mailbox, uint64_t cookie, int error);
void aiorbd_on_log(void *mailbox, const char *line, const char *channel, const char *who, const char *name,
                   uint64_t seconds, uint64_t nanoseconds, uint64_t sequence, const char *level, const char *text);
/* Loop. Take the oldest message; its data is valid until the next call. Returns the data's length, or -1 when there
 * is no message. */
int64_t aiorbd_mailbox_take(aiorbd_mailbox *mailbox, uint64_t *numbers, const char **data);
int aiorbd_mailbox_error(aiorbd_mailbox *mailbox);     /* any; of the watch, an errno or 0 */
uint64_t aiorbd_mailbox_lost(aiorbd_mailbox *mailbox); /* any */
void aiorbd_mailbox_release(aiorbd_mailbox *mailbox);  /* any; after librados's last call */

/*
 * A completion for one of librados's rados_aio_ functions. The holder begins it, which gives the rados_completion_t,
 * and submits; when librados refuses, the holder says so. Either way one record with `token` comes. The pointer, with
 * which the operation can be cancelled, is valid until the holder releases.
 */
aiorbd_completion *aiorbd_completion_new(aiorbd_bridge *bridge, int64_t token); /* any; NULL */
void *aiorbd_completion_begin(aiorbd_completion *completion);                   /* any, once */
void aiorbd_completion_refused(aiorbd_completion *completion, int code);        /* any */
void aiorbd_completion_release(aiorbd_completion *completion);                  /* any; the holder's */

#endif
