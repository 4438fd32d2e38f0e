/* Completions of asynchronous calls, and librbd's own event descriptor. */

typedef void (*rbd_callback_t)(rbd_completion_t cb, void *arg);

enum {
  EVENT_TYPE_PIPE = 1,
  EVENT_TYPE_EVENTFD = 2
};

/* since 16.2 */
int rbd_set_image_notification(rbd_image_t image, int fd, int type);
int rbd_aio_create_completion(void *cb_arg, rbd_callback_t complete_cb, rbd_completion_t *c);
int rbd_aio_is_complete(rbd_completion_t c);
int rbd_aio_wait_for_complete(rbd_completion_t c);
ssize_t rbd_aio_get_return_value(rbd_completion_t c);
void *rbd_aio_get_arg(rbd_completion_t c);
void rbd_aio_release(rbd_completion_t c);
int rbd_poll_io_events(rbd_image_t image, rbd_completion_t *comps, int numcomp);
