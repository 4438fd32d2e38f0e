/* Completions of asynchronous calls. */

typedef void (*rados_callback_t)(rados_completion_t cb, void *arg);

/* since 16.2 */
int rados_aio_create_completion2(void *cb_arg, rados_callback_t cb_complete,
    rados_completion_t *pc);
int rados_aio_wait_for_complete(rados_completion_t c);
int rados_aio_is_complete(rados_completion_t c);
int rados_aio_wait_for_complete_and_cb(rados_completion_t c);
int rados_aio_get_return_value(rados_completion_t c);
uint64_t rados_aio_get_version(rados_completion_t c);
void rados_aio_release(rados_completion_t c);
int rados_aio_flush(rados_ioctx_t io);
int rados_aio_flush_async(rados_ioctx_t io, rados_completion_t completion);
int rados_aio_cancel(rados_ioctx_t io, rados_completion_t completion);
