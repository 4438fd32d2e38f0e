/*
 * The bridge under many threads, for the sanitizers: a librbd and a librados made of threads that complete
 * in any order, early and late, and a loop that submits, drains, gives up and starts again.
 *
 *   stress ROUNDS SEED
 *
 * Every record must come exactly once and every buffer be filled before its record; the sanitizer says the rest.
 * With -DBREAK buffers are looked at, and one is given back, while the "library" still has them: a sanitizer that
 * sees nothing then is of no use.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { POOL = 3, OPERATIONS = 300, LENGTH = 96, EXTENTS = 3000, MESSAGES = 300, REPORTS = 300 };

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "stress: %s\n", what);
        abort();
    }
}

/* -- the libraries ----------------------------------------------------------------------------- */

struct completion {
    void (*callback)(void *, void *);
    void *argument;
    struct completion *next;
    char *buffer;
    ssize_t value;
    bool rados;
    atomic_bool cancelled;
    atomic_int references; /* librados counts; librbd's are given back in the callback */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct completion *pending;
static int running; /* queued or being called back */
static bool over;
static _Thread_local unsigned seed;
static atomic_int refused;

static unsigned dice(unsigned sides)
{
    return (unsigned)rand_r(&seed) % sides;
}

static int create(void *argument, void (*callback)(void *, void *), void **out, bool rados)
{
    struct completion *completion = calloc(1, sizeof *completion);
    completion->callback = callback;
    completion->argument = argument;
    completion->rados = rados;
    atomic_init(&completion->references, 1);
    *out = completion;
    return 0;
}

static void finish(struct completion *completion)
{
    if (completion->buffer != NULL)
        memset(completion->buffer, 'r', LENGTH);
    if (atomic_load(&completion->cancelled))
        completion->value = -ECANCELED;
    completion->callback(completion, completion->argument);
}

/* The submitter's thread. */
static int take(void *c, char *buffer, ssize_t value)
{
    struct completion *completion = c;
    bool rados = completion->rados;
    if (!dice(16)) {
        atomic_fetch_add(&refused, 1);
        return -ENOMEM;
    }
    completion->buffer = buffer;
    completion->value = value;
    if (rados)
        atomic_fetch_add(&completion->references, 1);
    if (!dice(8)) { /* before the submit returns */
        finish(completion); /* librbd's is gone after this */
        if (rados && atomic_fetch_sub(&completion->references, 1) == 1)
            free(completion);
        return 0;
    }
    pthread_mutex_lock(&mutex);
    completion->next = pending;
    pending = completion;
    running++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return 0;
}

static void *serve(void *argument)
{
    seed = (unsigned)(uintptr_t)argument;
    pthread_mutex_lock(&mutex);
    while (true) {
        struct completion **link = &pending, *completion;
        while (pending == NULL && !over)
            pthread_cond_wait(&changed, &mutex);
        if (pending == NULL)
            break;
        for (unsigned skip = dice(4); skip && (*link)->next != NULL; skip--)
            link = &(*link)->next;
        completion = *link;
        *link = completion->next;
        pthread_mutex_unlock(&mutex);
        bool rados = completion->rados;
        if (!dice(4))
            poll(NULL, 0, 1); /* many are with the library then */
        finish(completion);
        if (rados && atomic_fetch_sub(&completion->references, 1) == 1)
            free(completion);
        pthread_mutex_lock(&mutex);
        running--;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void wait_for_library(void)
{
    pthread_mutex_lock(&mutex);
    while (running)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

int rbd_aio_create_completion(void *argument, void (*callback)(void *, void *), void **out)
{
    return create(argument, callback, out, false);
}

void rbd_aio_release(void *c)
{
    free(c);
}

ssize_t rbd_aio_get_return_value(void *c)
{
    return ((struct completion *)c)->value;
}

#define OPEN(name)                                                                                 \
    int name(void *ioctx, const char *image_name, void **image, const char *snapshot, void *c)     \
    {                                                                                              \
        (void)ioctx, (void)image_name, (void)image, (void)snapshot;                                \
        return take(c, NULL, 0);                                                                   \
    }
OPEN(rbd_aio_open)
OPEN(rbd_aio_open_by_id)
OPEN(rbd_aio_open_read_only)
OPEN(rbd_aio_open_by_id_read_only)

int rbd_aio_close(void *image, void *c)
{
    (void)image;
    return take(c, NULL, 0);
}

int rbd_aio_read2(void *image, uint64_t offset, size_t length, char *buffer, void *c, int flags)
{
    (void)image, (void)offset, (void)flags;
    return take(c, buffer, (ssize_t)length);
}

int rbd_aio_readv(void *image, const struct iovec *vector, int count, uint64_t offset, void *c)
{
    (void)image, (void)offset;
    require(count == 1, "a vector was lost");
    return take(c, vector[0].iov_base, LENGTH);
}

int rbd_aio_write2(void *image, uint64_t offset, size_t length, const char *buffer, void *c, int flags)
{
    (void)image, (void)offset, (void)length, (void)buffer, (void)flags;
    return take(c, NULL, 0);
}

int rbd_aio_writev(void *image, const struct iovec *vector, int count, uint64_t offset, void *c)
{
    (void)image, (void)vector, (void)count, (void)offset;
    return take(c, NULL, 0);
}

int rbd_aio_discard(void *image, uint64_t offset, uint64_t length, void *c)
{
    (void)image, (void)offset, (void)length;
    return take(c, NULL, -EROFS);
}

int rbd_aio_write_zeroes(void *image, uint64_t offset, size_t length, void *c, int zero_flags, int flags)
{
    (void)image, (void)offset, (void)length, (void)zero_flags, (void)flags;
    return take(c, NULL, 0);
}

int rbd_aio_writesame(void *image, uint64_t offset, size_t length, const char *buffer, size_t size, void *c, int flags)
{
    (void)image, (void)offset, (void)length, (void)buffer, (void)size, (void)flags;
    return take(c, NULL, 0);
}

ssize_t rbd_aio_compare_and_write(void *image, uint64_t offset, size_t length, const char *compare,
                                  const char *buffer, void *c, uint64_t *mismatch, int flags)
{
    (void)image, (void)offset, (void)length, (void)compare, (void)buffer, (void)mismatch, (void)flags;
    return take(c, NULL, 0);
}

ssize_t rbd_aio_compare_and_writev(void *image, uint64_t offset, const struct iovec *compare, int compared,
                                   const struct iovec *pieces, int count, void *c, uint64_t *mismatch, int flags)
{
    (void)image, (void)offset, (void)compare, (void)compared, (void)pieces, (void)count, (void)mismatch, (void)flags;
    return take(c, NULL, 0);
}

int rbd_aio_write_with_crc32c(void *image, uint64_t offset, size_t length, const char *buffer, uint32_t crc, void *c,
                              int flags)
{
    (void)image, (void)offset, (void)length, (void)buffer, (void)crc, (void)flags;
    return take(c, NULL, 0);
}

int rbd_aio_flush(void *image, void *c)
{
    (void)image;
    return take(c, NULL, 0);
}

static struct {
    pthread_mutex_t mutex;
    void (*callback)(void *);
    void *argument;
} update = {.mutex = PTHREAD_MUTEX_INITIALIZER};

int rbd_update_watch(void *image, uint64_t *handle, void (*callback)(void *), void *argument)
{
    (void)image;
    *handle = 1;
    pthread_mutex_lock(&update.mutex);
    update.callback = callback;
    update.argument = argument;
    pthread_mutex_unlock(&update.mutex);
    return 0;
}

int rbd_update_unwatch(void *image, uint64_t handle)
{
    (void)image, (void)handle;
    pthread_mutex_lock(&update.mutex); /* waits for a callback that is running */
    update.callback = NULL;
    pthread_mutex_unlock(&update.mutex);
    return 0;
}

int rados_aio_create_completion2(void *argument, void (*callback)(void *, void *), void **out)
{
    return create(argument, callback, out, true);
}

void rados_aio_release(void *c)
{
    struct completion *completion = c;
    if (atomic_fetch_sub(&completion->references, 1) == 1)
        free(completion);
}

int rados_aio_flush_async(void *ioctx, void *c)
{
    (void)ioctx;
    return take(c, NULL, 0);
}

int rados_aio_get_return_value(void *c)
{
    return (int)((struct completion *)c)->value;
}

/* -- the threads beside the loop ----------------------------------------------------------------- */

/* tp_librbd: tells of changes of the image. */
static void *updates(void *argument)
{
    (void)argument;
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&update.mutex);
        if (update.callback != NULL)
            update.callback(update.argument);
        pthread_mutex_unlock(&update.mutex);
    }
    return NULL;
}

struct worker {
    pthread_t thread;
    aiorbd_bridge *bridge;
    int64_t token;
    void *of; /* progress slot, diff, mailbox or rados completion */
    struct completion *pointer; /* librados's, once `ended` */
    unsigned seed;
    atomic_bool ended;
};

/* Each ends with a record, as the library's worker threads do. */
static void *end(struct worker *worker)
{
    atomic_store(&worker->ended, true);
    require(aiorbd_bridge_post(worker->bridge, worker->token, 7) == 0, "a post failed");
    return NULL;
}

static void *progress_worker(void *argument)
{
    struct worker *worker = argument;
    for (uint64_t i = 1; i <= REPORTS; i++)
        if (aiorbd_on_progress(i, REPORTS, worker->of) < 0)
            break;
    return end(worker);
}

static void *diff_worker(void *argument)
{
    struct worker *worker = argument;
    for (uint64_t i = 0; i < EXTENTS; i++)
        if (aiorbd_on_extent(i, 1, 1, worker->of) < 0)
            break;
    return end(worker);
}

static void *mailbox_worker(void *argument)
{
    struct worker *worker = argument;
    for (uint64_t i = 0; i < MESSAGES; i++)
        aiorbd_on_notify(worker->of, i, 2, 3, "message", 7);
    return end(worker);
}

static void *rados_worker(void *argument)
{
    struct worker *worker = argument;
    seed = worker->seed;
    worker->pointer = aiorbd_completion_begin(worker->of);
    if (take(worker->pointer, NULL, 5) < 0)
        aiorbd_completion_refused(worker->of, -EBUSY);
    atomic_store(&worker->ended, true); /* the record is the completion's */
    return NULL;
}

static void start(struct worker *worker, void *(*function)(void *), aiorbd_bridge *bridge, int64_t token, void *of)
{
    *worker = (struct worker){.bridge = bridge, .token = token, .of = of, .seed = dice(1u << 30) + 1};
    require(pthread_create(&worker->thread, NULL, function, worker) == 0, "no thread");
}

enum { WAYS = 16, PASS = 14 };

/* -- the loop -------------------------------------------------------------------------------------- */

static int submit(aiorbd_bridge *bridge, aiorbd_image *image, aiorbd_lane *lane, int64_t token, char *buffer)
{
    static const int kinds[WAYS] = {0, 0, AIORBD_READV, AIORBD_WRITE, AIORBD_WRITEV, AIORBD_DISCARD, AIORBD_WRITE_ZEROES,
                                    AIORBD_WRITE_SAME, AIORBD_COMPARE_AND_WRITE, AIORBD_FLUSH, AIORBD_WRITE,
                                    AIORBD_WRITE_ZEROES, AIORBD_READ, AIORBD_READ, AIORBD_WRITE, AIORBD_READ};
    static struct iovec pieces[OPERATIONS]; /* librbd reads the array at completion */
    static uint64_t mismatch;
    static void *opened;
    int way = (int)(token % WAYS);
    void *pointers[] = {buffer, buffer, &mismatch};
    aiorbd_request request = {.kind = kinds[way], .length = LENGTH, .buffer = buffer, .extra = LENGTH};
    pieces[token] = (struct iovec){.iov_base = buffer, .iov_len = LENGTH};
    if (request.kind == AIORBD_READV || request.kind == AIORBD_WRITEV) {
        request.buffer = &pieces[token];
        request.extra = 1;
    }
    if (request.kind == AIORBD_COMPARE_AND_WRITE)
        request.buffer = pointers;
    switch (way) {
    case 0: return aiorbd_open(bridge, token, NULL, "name", dice(2), NULL, dice(2), &opened);
    case 1: return aiorbd_close(image, token);
    case 10:
    case 11:
    case 12: return aiorbd_lane_submit(lane, token, &request);
    case PASS:
    case PASS + 1: return aiorbd_submit_in_pass(image, token, &request);
    default: return aiorbd_submit(image, token, &request);
    }
}

static bool fills(int64_t token)
{
    return token % WAYS == 2 || (token % WAYS > 11 && token % WAYS != PASS);
}

enum { PROGRESS = 1000001, DIFF, MAILBOX, RADOS, LAST = RADOS };
enum { UPDATED = -1, PROGRESSED = -2, EXTENDED = -3, MAILED = -4 };

static uint64_t operations_done, extents_taken, messages_taken, reports_read, rounds_given_up, lane_refused;

static void is_over(int64_t token, int64_t value, char **buffers, bool *in_flight)
{
    require(in_flight[token], "a record came twice, or was not asked for");
    in_flight[token] = false;
    operations_done++;
    if (value < 0 && token % WAYS > 9)
        lane_refused++;
    else if (fills(token) && buffers[token] != NULL)
        require(buffers[token][0] == 'r' && buffers[token][LENGTH - 1] == 'r', "a buffer was not filled");
    free(buffers[token]);
    buffers[token] = NULL;
}

static void play(bool give_up)
{
    char *buffers[OPERATIONS] = {NULL};
    bool in_flight[OPERATIONS] = {false};
    struct worker workers[4];
    pthread_t updater;
    int64_t records[1 + 2 * 64];
    uint64_t expected_extent = 0, numbers[AIORBD_MESSAGE_NUMBERS], extents[3 * 64], done_total[2];
    int left = 0, workers_left = 4, submitted = 0;
    bool diff_stopped = false, cancelled = false, patient = false;
    aiorbd_bridge *bridge = aiorbd_bridge_new();
    aiorbd_image *image = aiorbd_image_new(bridge, NULL, &over, UPDATED);
    aiorbd_progress *progress = aiorbd_progress_new(bridge, PROGRESSED);
    aiorbd_diff *diff = aiorbd_diff_new(bridge, EXTENDED, 64);
    aiorbd_mailbox *mailbox = aiorbd_mailbox_new(bridge, MAILED, 32);
    aiorbd_completion *completion = aiorbd_completion_new(bridge, RADOS);
    aiorbd_lane *lane = aiorbd_lane_new(image, 1 + (int)dice(4), 1 + (int)dice(3));

    require(aiorbd_image_watch(image) == 0, "no watch");
    pthread_create(&updater, NULL, updates, NULL);
    start(&workers[0], progress_worker, bridge, PROGRESS, progress);
    start(&workers[1], diff_worker, bridge, DIFF, diff);
    start(&workers[2], mailbox_worker, bridge, MAILBOX, mailbox);
    start(&workers[3], rados_worker, bridge, RADOS, completion);

    while (submitted < OPERATIONS || left || workers_left) {
        struct pollfd readable = {.fd = aiorbd_bridge_fd(bridge), .events = POLLIN};
        bool pass = dice(2);
        if (pass)
            aiorbd_bridge_begin(bridge);
        for (unsigned burst = dice(32); burst && submitted < OPERATIONS; burst--) {
            int number = submitted++, code;
            buffers[number] = malloc(LENGTH);
            memset(buffers[number], '?', LENGTH);
            in_flight[number] = true;
            aiorbd_image_set_known(image, aiorbd_image_generation(image));
            code = submit(bridge, image, lane, number, buffers[number]);
            if (code == 0)
                left++;
            else
                in_flight[number] = false; /* refused, or stale: no record will come */
#ifdef BREAK
            if (number == 98) { /* a readv */
                free(buffers[number]);
                buffers[number] = NULL;
            }
#endif
        }
        if (pass)
            aiorbd_bridge_end(bridge);
        if (give_up && submitted > OPERATIONS / 2)
            break;
        if (!dice(32))
            aiorbd_lane_cancel(lane);
        if (!dice(8))
            aiorbd_progress_stop(progress);
        if (!dice(64)) {
            aiorbd_diff_stop(diff);
            diff_stopped = true;
        }
        if (!cancelled && atomic_load(&workers[3].ended) && !dice(2)) {
            /* What rados_aio_cancel does; the pointer is valid while the completion is held. */
            atomic_store(&workers[3].pointer->cancelled, true);
            cancelled = true;
        }
#ifdef BREAK
        poll(NULL, 0, 1);
        for (int i = 0; i < submitted; i++) /* a look at what the library may have written to meanwhile */
            require(buffers[i] == NULL || buffers[i][0] != 'x', "unreachable");
#endif
        if (submitted == OPERATIONS)
            poll(&readable, 1, patient ? 1 : 1000);
        if (patient && !dice(4)) {
            aiorbd_lane_hurry(lane);
            patient = false;
        }
        aiorbd_bridge_begin(bridge);
        int count = aiorbd_bridge_take(bridge, records, 1 + (int)dice(64));
        aiorbd_bridge_end(bridge);
        require(records[0] == count, "the number of records is wrong");
        for (int i = 0; i < count; i++) {
            int64_t token = records[1 + 2 * i];
            if (token >= 0 && token < OPERATIONS) {
                if (token % WAYS >= 10 && token % WAYS <= 12 && dice(2)) {
                    aiorbd_lane_wait(lane);
                    patient = true;
                }
                is_over(token, records[2 + 2 * i], buffers, in_flight);
                left--;
            } else if (token > 0) {
                require(token >= PROGRESS && token <= LAST, "no such token");
                workers_left--;
            } else if (token == PROGRESSED) {
                aiorbd_progress_read(progress, done_total);
                require(done_total[0] <= REPORTS, "a report is wrong");
                reports_read++;
            }
        }
        for (int got; (got = aiorbd_diff_take(diff, extents, 64)) > 0; extents_taken += (uint64_t)got)
            for (int i = 0; i < got; i++)
                require(extents[3 * i] == expected_extent++, "an extent is out of order");
        for (const char *data; aiorbd_mailbox_take(mailbox, numbers, &data) >= 0; messages_taken++)
            require(memcmp(data, "message", 7) == 0 && numbers[1] == 2, "a message is wrong");
    }
    if (give_up) {
        /* The loop is gone with all of this in flight: the last completion drops the bridge. */
        rounds_given_up++;
        aiorbd_lane_cancel(lane);
        aiorbd_diff_stop(diff);
        diff_stopped = true;
    }
    for (int i = 0; i < 4; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_join(updater, NULL);
    if (!give_up) {
        require(diff_stopped || expected_extent == EXTENTS, "extents were lost");
        for (int kind = 0; kind < AIORBD_KINDS; kind++) {
            aiorbd_counts counts;
            uint64_t sum = 0;
            aiorbd_bridge_counts(bridge, kind, &counts);
            for (int i = 0; i < AIORBD_BUCKETS; i++)
                sum += counts.buckets[i];
            require(sum == counts.done && counts.failed <= counts.done, "the counts do not agree");
        }
    }
    aiorbd_image_unwatch(image);
    aiorbd_progress_release(progress);
    aiorbd_diff_release(diff);
    aiorbd_mailbox_release(mailbox);
    aiorbd_completion_release(completion);
    aiorbd_lane_release(lane);
    aiorbd_image_release(image);
    aiorbd_bridge_release(bridge);
    wait_for_library();
    for (int i = 0; i < OPERATIONS; i++)
        free(buffers[i]);
}

int main(int count, char **arguments)
{
    pthread_t pool[POOL];
    int rounds = count > 1 ? atoi(arguments[1]) : 20;
    const char *message = aiorbd_load(NULL, NULL); /* this program */
    require(message == NULL, message);
    seed = count > 2 ? (unsigned)atoi(arguments[2]) : 1;
    for (uintptr_t i = 0; i < POOL; i++)
        pthread_create(&pool[i], NULL, serve, (void *)(i + 17 + seed));
    for (int round = 0; round < rounds; round++)
        play(round % 3 == 2);
    pthread_mutex_lock(&mutex);
    over = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < POOL; i++)
        pthread_join(pool[i], NULL);
    printf("operations %llu refused %d extents %llu messages %llu reports %llu given-up %llu lane-refused %llu\n",
           (unsigned long long)operations_done, atomic_load(&refused), (unsigned long long)extents_taken,
           (unsigned long long)messages_taken, (unsigned long long)reports_read,
           (unsigned long long)rounds_given_up, (unsigned long long)lane_refused);
    return 0;
}
