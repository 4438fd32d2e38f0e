/* A completion of librados's. Unlike librbd's it can be cancelled, by its pointer: so the submitter holds it as well,
 * and it is given back when both that one and the record are gone. */
#include <stdlib.h>

#include "internal.h"

struct aiorbd_completion {
    struct aiorbd_node node; /* first: `taken` gets this address */
    aiorbd_bridge *bridge;
    void *completion;
    atomic_int references;
};

/* Any thread. */
static void drop(aiorbd_completion *completion)
{
    if (atomic_fetch_sub_explicit(&completion->references, 1, memory_order_acq_rel) != 1)
        return;
    aiorbd_librados.rados_aio_release(completion->completion);
    free(completion);
}

/* Any thread. The holder has the bridge as well; the record in the bridge's own queue has not. */
void aiorbd_completion_release(aiorbd_completion *completion)
{
    aiorbd_bridge *bridge = completion->bridge;
    drop(completion);
    aiorbd_bridge_release(bridge);
}

/* The loop's thread, or the last holder's of the bridge. */
static void completion_taken(struct aiorbd_node *node)
{
    drop((aiorbd_completion *)node);
}

/* A thread of librados's, or the submitter's when it was refused. The drain may drop the record's reference before
 * the push returns, and the submitter its own: the bridge is held since begin(). */
static void finish(aiorbd_completion *completion, int value)
{
    aiorbd_bridge *bridge = completion->bridge;
    completion->node.value = value;
    aiorbd_bridge_push(bridge, &completion->node);
    aiorbd_bridge_release(bridge);
}

/* A thread of librados's. */
static void on_complete(void *pointer, void *argument)
{
    finish(argument, aiorbd_librados.rados_aio_get_return_value(pointer));
}

/* Any thread. */
aiorbd_completion *aiorbd_completion_new(aiorbd_bridge *bridge, int64_t token)
{
    aiorbd_completion *completion = calloc(1, sizeof *completion);
    if (completion == NULL)
        return NULL;
    if (aiorbd_librados.rados_aio_create_completion2(completion, on_complete, &completion->completion) < 0) {
        free(completion);
        return NULL;
    }
    aiorbd_bridge_hold(bridge);
    completion->bridge = bridge;
    completion->node.token = token;
    completion->node.taken = completion_taken;
    atomic_init(&completion->references, 1);
    return completion;
}

/* The submitter's thread. librados may call back before its submitting function returns. */
void *aiorbd_completion_begin(aiorbd_completion *completion)
{
    atomic_fetch_add_explicit(&completion->references, 1, memory_order_relaxed);
    aiorbd_bridge_hold(completion->bridge);
    return completion->completion;
}

/* The submitter's thread. librados will not call back: the record comes from here. */
void aiorbd_completion_refused(aiorbd_completion *completion, int code)
{
    finish(completion, code);
}
