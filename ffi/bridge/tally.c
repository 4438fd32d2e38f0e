/* How many operations there were, how many bytes, how long they took: a few additions each, no lock. */
#include <time.h>

#include "internal.h"

static void add(_Atomic uint64_t *counter, uint64_t what)
{
    atomic_fetch_add_explicit(counter, what, memory_order_relaxed);
}

static uint64_t look(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Any thread. */
uint64_t aiorbd_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A thread of librbd's. `value` is librbd's result, of which only the sign counts. */
void aiorbd_tally_add(struct aiorbd_tally *tally, uint64_t nanoseconds, int64_t value, uint64_t bytes)
{
    uint64_t microseconds = nanoseconds / 1000;
    int bucket = microseconds ? 64 - __builtin_clzll(microseconds) : 0;
    add(&tally->nanoseconds, nanoseconds);
    add(&tally->buckets[bucket < AIORBD_BUCKETS ? bucket : AIORBD_BUCKETS - 1], 1);
    if (value < 0)
        add(&tally->failed, 1);
    else
        add(&tally->bytes, bytes);
    add(&tally->done, 1);
}

/* Any thread. What is added meanwhile may be seen in part. */
void aiorbd_bridge_counts(const aiorbd_bridge *bridge, int kind, aiorbd_counts *counts)
{
    const struct aiorbd_tally *tally = &bridge->tallies[kind];
    counts->done = look(&tally->done);
    counts->failed = look(&tally->failed);
    counts->bytes = look(&tally->bytes);
    counts->nanoseconds = look(&tally->nanoseconds);
    for (int i = 0; i < AIORBD_BUCKETS; i++)
        counts->buckets[i] = look(&tally->buckets[i]);
}
