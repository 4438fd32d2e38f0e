/* Listing objects. */

typedef void *rados_list_ctx_t;

/* since 16.2 */
int rados_nobjects_list_open(rados_ioctx_t io, rados_list_ctx_t *ctx);
int rados_nobjects_list_next(rados_list_ctx_t ctx, const char **entry, const char **key,
    const char **nspace);
int rados_nobjects_list_next2(rados_list_ctx_t ctx, const char **entry, const char **key,
    const char **nspace, size_t *entry_size, size_t *key_size, size_t *nspace_size);
void rados_nobjects_list_close(rados_list_ctx_t ctx);
