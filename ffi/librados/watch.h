/* Watching objects, and notifying. */

typedef void (*rados_watchcb2_t)(void *arg, uint64_t notify_id, uint64_t handle,
    uint64_t notifier_id, void *data, size_t data_len);
typedef void (*rados_watcherrcb_t)(void *pre, uint64_t cookie, int err);

struct notify_ack_t {
  uint64_t notifier_id;
  uint64_t cookie;
  char *payload;
  uint64_t payload_len;
};

struct notify_timeout_t {
  uint64_t notifier_id;
  uint64_t cookie;
};

/* since 16.2 */
int rados_watch3(rados_ioctx_t io, const char *o, uint64_t *cookie, rados_watchcb2_t watchcb,
    rados_watcherrcb_t watcherrcb, uint32_t timeout, void *arg);
int rados_aio_watch2(rados_ioctx_t io, const char *o, rados_completion_t completion,
    uint64_t *handle, rados_watchcb2_t watchcb, rados_watcherrcb_t watcherrcb, uint32_t timeout,
    void *arg);
int rados_watch_check(rados_ioctx_t io, uint64_t cookie);
int rados_unwatch2(rados_ioctx_t io, uint64_t cookie);
int rados_aio_unwatch(rados_ioctx_t io, uint64_t cookie, rados_completion_t completion);
int rados_aio_notify(rados_ioctx_t io, const char *o, rados_completion_t completion,
    const char *buf, int buf_len, uint64_t timeout_ms, char **reply_buffer,
    size_t *reply_buffer_len);
int rados_notify2(rados_ioctx_t io, const char *o, const char *buf, int buf_len,
    uint64_t timeout_ms, char **reply_buffer, size_t *reply_buffer_len);
int rados_decode_notify_response(char *reply_buffer, size_t reply_buffer_len,
    struct notify_ack_t **acks, size_t *nr_acks, struct notify_timeout_t **timeouts,
    size_t *nr_timeouts);
void rados_free_notify_response(struct notify_ack_t *acks, size_t nr_acks,
    struct notify_timeout_t *timeouts);
int rados_notify_ack(rados_ioctx_t io, const char *o, uint64_t notify_id, uint64_t cookie,
    const char *buf, int buf_len);
int rados_watch_flush(rados_t cluster);
int rados_aio_watch_flush(rados_t cluster, rados_completion_t completion);
