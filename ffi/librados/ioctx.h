/* I/O contexts. */

struct rados_pool_stat_t {
  uint64_t num_bytes;
  uint64_t num_kb;
  uint64_t num_objects;
  uint64_t num_object_clones;
  uint64_t num_object_copies;
  uint64_t num_objects_missing_on_primary;
  uint64_t num_objects_unfound;
  uint64_t num_objects_degraded;
  uint64_t num_rd;
  uint64_t num_rd_kb;
  uint64_t num_wr;
  uint64_t num_wr_kb;
  uint64_t num_user_bytes;
  uint64_t compressed_bytes_orig;
  uint64_t compressed_bytes;
  uint64_t compressed_bytes_alloc;
};

/* since 16.2 */
int rados_ioctx_create(rados_t cluster, const char *pool_name, rados_ioctx_t *ioctx);
int rados_ioctx_create2(rados_t cluster, int64_t pool_id, rados_ioctx_t *ioctx);
void rados_ioctx_destroy(rados_ioctx_t io);
rados_t rados_ioctx_get_cluster(rados_ioctx_t io);
int rados_ioctx_pool_stat(rados_ioctx_t io, struct rados_pool_stat_t *stats);
int64_t rados_ioctx_get_id(rados_ioctx_t io);
int rados_ioctx_get_pool_name(rados_ioctx_t io, char *buf, unsigned maxlen);
void rados_ioctx_locator_set_key(rados_ioctx_t io, const char *key);
void rados_ioctx_set_namespace(rados_ioctx_t io, const char *nspace);
int rados_ioctx_get_namespace(rados_ioctx_t io, char *buf, unsigned maxlen);
uint64_t rados_get_last_version(rados_ioctx_t io);
void rados_set_pool_full_try(rados_ioctx_t io);
void rados_unset_pool_full_try(rados_ioctx_t io);
