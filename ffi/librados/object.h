/* Single objects. */

/* since 16.2 */
int rados_getxattrs_next(rados_xattrs_iter_t iter, const char **name, const char **val,
    size_t *len);
void rados_getxattrs_end(rados_xattrs_iter_t iter);
int rados_aio_write(rados_ioctx_t io, const char *oid, rados_completion_t completion,
    const char *buf, size_t len, uint64_t off);
int rados_aio_append(rados_ioctx_t io, const char *oid, rados_completion_t completion,
    const char *buf, size_t len);
int rados_aio_write_full(rados_ioctx_t io, const char *oid, rados_completion_t completion,
    const char *buf, size_t len);
int rados_aio_writesame(rados_ioctx_t io, const char *oid, rados_completion_t completion,
    const char *buf, size_t data_len, size_t write_len, uint64_t off);
int rados_aio_remove(rados_ioctx_t io, const char *oid, rados_completion_t completion);
int rados_aio_read(rados_ioctx_t io, const char *oid, rados_completion_t completion, char *buf,
    size_t len, uint64_t off);
int rados_aio_stat(rados_ioctx_t io, const char *o, rados_completion_t completion, uint64_t *psize,
    time_t *pmtime);
int rados_aio_cmpext(rados_ioctx_t io, const char *o, rados_completion_t completion,
    const char *cmp_buf, size_t cmp_len, uint64_t off);
int rados_aio_exec(rados_ioctx_t io, const char *o, rados_completion_t completion, const char *cls,
    const char *method, const char *in_buf, size_t in_len, char *buf, size_t out_len);
int rados_aio_getxattr(rados_ioctx_t io, const char *o, rados_completion_t completion,
    const char *name, char *buf, size_t len);
int rados_aio_setxattr(rados_ioctx_t io, const char *o, rados_completion_t completion,
    const char *name, const char *buf, size_t len);
int rados_aio_rmxattr(rados_ioctx_t io, const char *o, rados_completion_t completion,
    const char *name);
int rados_aio_getxattrs(rados_ioctx_t io, const char *oid, rados_completion_t completion,
    rados_xattrs_iter_t *iter);
int rados_lock_exclusive(rados_ioctx_t io, const char *oid, const char *name, const char *cookie,
    const char *desc, struct timeval *duration, uint8_t flags);
int rados_lock_shared(rados_ioctx_t io, const char *o, const char *name, const char *cookie,
    const char *tag, const char *desc, struct timeval *duration, uint8_t flags);
int rados_unlock(rados_ioctx_t io, const char *o, const char *name, const char *cookie);
int rados_aio_unlock(rados_ioctx_t io, const char *o, const char *name, const char *cookie,
    rados_completion_t completion);
ssize_t rados_list_lockers(rados_ioctx_t io, const char *o, const char *name, int *exclusive,
    char *tag, size_t *tag_len, char *clients, size_t *clients_len, char *cookies,
    size_t *cookies_len, char *addrs, size_t *addrs_len);
int rados_break_lock(rados_ioctx_t io, const char *o, const char *name, const char *client,
    const char *cookie);

/* since 18.2 */
int rados_aio_stat2(rados_ioctx_t io, const char *o, rados_completion_t completion, uint64_t *psize,
    struct timespec *pmtime);
