/*
 * Messages of librados's: notifications and errors of an object watch, lines of the cluster log.
 *
 * librados's thread must not wait, and its data is gone when the callback returns: so a message is copied. Their
 * number is bounded; a message for a full mailbox is counted and dropped.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* What the data of all messages that wait may come to, however few they are. */
#define MOST_BYTES ((int64_t)1 << 26)

struct message {
    struct aiorbd_node node; /* first: the list holds these */
    uint64_t numbers[AIORBD_MESSAGE_NUMBERS];
    size_t length;
    char data[];
};

struct aiorbd_mailbox {
    struct aiorbd_event event;
    struct aiorbd_list messages;
    struct message *shown; /* the one that the loop looks at */
    atomic_int room;
    _Atomic int64_t bytes; /* of the messages that wait */
    atomic_int error;      /* of the watch; kept apart, since it must not get lost */
    _Atomic uint64_t lost;
};

/* The loop's thread, or the last holder's. */
static void empty(struct aiorbd_event *event)
{
    aiorbd_mailbox *mailbox = (aiorbd_mailbox *)event;
    struct aiorbd_node *node;
    free(mailbox->shown);
    while ((node = aiorbd_list_pop(&mailbox->messages)) != NULL)
        free(node);
}

/* Any thread. */
aiorbd_mailbox *aiorbd_mailbox_new(aiorbd_bridge *bridge, int64_t token, int room)
{
    aiorbd_mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox == NULL)
        return NULL;
    aiorbd_event_init(&mailbox->event, bridge, token);
    mailbox->event.dispose = empty;
    atomic_init(&mailbox->room, room);
    return mailbox;
}

/* A thread of librados's. */
static struct message *new_message(aiorbd_mailbox *mailbox, size_t length)
{
    struct message *message = NULL;
    int64_t bytes = atomic_fetch_add_explicit(&mailbox->bytes, (int64_t)length, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&mailbox->room, 1, memory_order_relaxed) > 0 && bytes + (int64_t)length <= MOST_BYTES)
        message = calloc(1, sizeof *message + length);
    if (message == NULL) {
        atomic_fetch_add_explicit(&mailbox->room, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&mailbox->bytes, (int64_t)length, memory_order_relaxed);
        atomic_fetch_add_explicit(&mailbox->lost, 1, memory_order_relaxed);
        aiorbd_event_raise(&mailbox->event);
        return NULL;
    }
    message->length = length;
    return message;
}

/* A thread of librados's. */
static void put(aiorbd_mailbox *mailbox, struct message *message)
{
    aiorbd_list_push(&mailbox->messages, &message->node);
    aiorbd_event_raise(&mailbox->event);
}

/* A thread of librados's. */
void aiorbd_on_notify(void *argument, uint64_t notify_id, uint64_t cookie, uint64_t notifier_id, void *data,
                      size_t length)
{
    struct message *message = new_message(argument, length);
    if (message == NULL)
        return;
    message->numbers[0] = notify_id;
    message->numbers[1] = cookie;
    message->numbers[2] = notifier_id;
    if (length)
        memcpy(message->data, data, length);
    put(argument, message);
}

/* A thread of librados's. */
void aiorbd_on_watch_error(void *argument, uint64_t cookie, int error)
{
    aiorbd_mailbox *mailbox = argument;
    (void)cookie;
    atomic_store_explicit(&mailbox->error, error < 0 ? -error : error, memory_order_release);
    aiorbd_event_raise(&mailbox->event);
}

/* A thread of librados's, which holds a lock of the client's. The strings go one after the other, each with its NUL. */
void aiorbd_on_log(void *argument, const char *line, const char *channel, const char *who, const char *name,
                   uint64_t seconds, uint64_t nanoseconds, uint64_t sequence, const char *level, const char *text)
{
    const char *strings[] = {channel, who, name, level, text};
    size_t lengths[5], length = 0;
    struct message *message;
    char *to;
    (void)line;
    for (int i = 0; i < 5; i++)
        length += lengths[i] = strings[i] == NULL ? 1 : strlen(strings[i]) + 1;
    message = new_message(argument, length);
    if (message == NULL)
        return;
    message->numbers[0] = seconds;
    message->numbers[1] = nanoseconds;
    message->numbers[2] = sequence;
    to = message->data;
    for (int i = 0; i < 5; to += lengths[i++])
        if (strings[i] != NULL)
            memcpy(to, strings[i], lengths[i]);
    put(argument, message);
}

/* The loop's thread. */
int64_t aiorbd_mailbox_take(aiorbd_mailbox *mailbox, uint64_t *numbers, const char **data)
{
    struct message *message = (struct message *)aiorbd_list_pop(&mailbox->messages);
    free(mailbox->shown);
    mailbox->shown = message;
    if (message == NULL)
        return -1;
    atomic_fetch_add_explicit(&mailbox->room, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&mailbox->bytes, (int64_t)message->length, memory_order_relaxed);
    memcpy(numbers, message->numbers, sizeof message->numbers);
    *data = message->data;
    return (int64_t)message->length;
}

/* Any thread. */
int aiorbd_mailbox_error(aiorbd_mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->error, memory_order_acquire);
}

/* Any thread. */
uint64_t aiorbd_mailbox_lost(aiorbd_mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->lost, memory_order_relaxed);
}

/* Any thread, after librados will call back no more. */
void aiorbd_mailbox_release(aiorbd_mailbox *mailbox)
{
    aiorbd_event_release(&mailbox->event);
}
