/* Pool initialisation, statistics and metadata. */

typedef void *rbd_pool_stats_t;

typedef enum {
  RBD_POOL_STAT_OPTION_IMAGES,
  RBD_POOL_STAT_OPTION_IMAGE_PROVISIONED_BYTES,
  RBD_POOL_STAT_OPTION_IMAGE_MAX_PROVISIONED_BYTES,
  RBD_POOL_STAT_OPTION_IMAGE_SNAPSHOTS,
  RBD_POOL_STAT_OPTION_TRASH_IMAGES,
  RBD_POOL_STAT_OPTION_TRASH_PROVISIONED_BYTES,
  RBD_POOL_STAT_OPTION_TRASH_MAX_PROVISIONED_BYTES,
  RBD_POOL_STAT_OPTION_TRASH_SNAPSHOTS
} rbd_pool_stat_option_t;

/* since 16.2 */
int rbd_pool_metadata_get(rados_ioctx_t io_ctx, const char *key, char *value, size_t *val_len);
int rbd_pool_metadata_set(rados_ioctx_t io_ctx, const char *key, const char *value);
int rbd_pool_metadata_remove(rados_ioctx_t io_ctx, const char *key);
int rbd_pool_metadata_list(rados_ioctx_t io_ctx, const char *start, uint64_t max, char *keys,
    size_t *key_len, char *values, size_t *vals_len);
int rbd_pool_init(rados_ioctx_t io, bool force);
void rbd_pool_stats_create(rbd_pool_stats_t *stats);
void rbd_pool_stats_destroy(rbd_pool_stats_t stats);
int rbd_pool_stats_option_add_uint64(rbd_pool_stats_t stats, int stat_option, uint64_t *stat_val);
int rbd_pool_stats_get(rados_ioctx_t io, rbd_pool_stats_t stats);
