/* Compound read and write operations. */

typedef void *rados_omap_iter_t;
typedef void *rados_write_op_t;
typedef void *rados_read_op_t;

typedef enum {
  LIBRADOS_CHECKSUM_TYPE_XXHASH32 = 0,
  LIBRADOS_CHECKSUM_TYPE_XXHASH64 = 1,
  LIBRADOS_CHECKSUM_TYPE_CRC32C = 2
} rados_checksum_type_t;

/* since 16.2 */
int rados_omap_get_next(rados_omap_iter_t iter, char **key, char **val, size_t *len);
int rados_omap_get_next2(rados_omap_iter_t iter, char **key, char **val, size_t *key_len,
    size_t *val_len);
unsigned int rados_omap_iter_size(rados_omap_iter_t iter);
void rados_omap_get_end(rados_omap_iter_t iter);
rados_write_op_t rados_create_write_op(void);
void rados_release_write_op(rados_write_op_t write_op);
void rados_write_op_set_flags(rados_write_op_t write_op, int flags);
void rados_write_op_assert_exists(rados_write_op_t write_op);
void rados_write_op_assert_version(rados_write_op_t write_op, uint64_t ver);
void rados_write_op_cmpext(rados_write_op_t write_op, const char *cmp_buf, size_t cmp_len,
    uint64_t off, int *prval);
void rados_write_op_cmpxattr(rados_write_op_t write_op, const char *name,
    uint8_t comparison_operator, const char *value, size_t value_len);
void rados_write_op_omap_cmp(rados_write_op_t write_op, const char *key,
    uint8_t comparison_operator, const char *val, size_t val_len, int *prval);
void rados_write_op_omap_cmp2(rados_write_op_t write_op, const char *key,
    uint8_t comparison_operator, const char *val, size_t key_len, size_t val_len, int *prval);
void rados_write_op_setxattr(rados_write_op_t write_op, const char *name, const char *value,
    size_t value_len);
void rados_write_op_rmxattr(rados_write_op_t write_op, const char *name);
void rados_write_op_create(rados_write_op_t write_op, int exclusive, const char *category);
void rados_write_op_write(rados_write_op_t write_op, const char *buffer, size_t len,
    uint64_t offset);
void rados_write_op_write_full(rados_write_op_t write_op, const char *buffer, size_t len);
void rados_write_op_writesame(rados_write_op_t write_op, const char *buffer, size_t data_len,
    size_t write_len, uint64_t offset);
void rados_write_op_append(rados_write_op_t write_op, const char *buffer, size_t len);
void rados_write_op_remove(rados_write_op_t write_op);
void rados_write_op_truncate(rados_write_op_t write_op, uint64_t offset);
void rados_write_op_zero(rados_write_op_t write_op, uint64_t offset, uint64_t len);
void rados_write_op_exec(rados_write_op_t write_op, const char *cls, const char *method,
    const char *in_buf, size_t in_len, int *prval);
void rados_write_op_omap_set(rados_write_op_t write_op, const char * const *keys,
    const char * const *vals, const size_t *lens, size_t num);
void rados_write_op_omap_set2(rados_write_op_t write_op, const char * const *keys,
    const char * const *vals, const size_t *key_lens, const size_t *val_lens, size_t num);
void rados_write_op_omap_rm_keys(rados_write_op_t write_op, const char * const *keys,
    size_t keys_len);
void rados_write_op_omap_rm_keys2(rados_write_op_t write_op, const char * const *keys,
    const size_t *key_lens, size_t keys_len);
void rados_write_op_omap_rm_range2(rados_write_op_t write_op, const char *key_begin,
    size_t key_begin_len, const char *key_end, size_t key_end_len);
void rados_write_op_omap_clear(rados_write_op_t write_op);
void rados_write_op_set_alloc_hint(rados_write_op_t write_op, uint64_t expected_object_size,
    uint64_t expected_write_size);
void rados_write_op_set_alloc_hint2(rados_write_op_t write_op, uint64_t expected_object_size,
    uint64_t expected_write_size, uint32_t flags);
int rados_write_op_operate(rados_write_op_t write_op, rados_ioctx_t io, const char *oid,
    time_t *mtime, int flags);
int rados_write_op_operate2(rados_write_op_t write_op, rados_ioctx_t io, const char *oid,
    struct timespec *mtime, int flags);
int rados_aio_write_op_operate(rados_write_op_t write_op, rados_ioctx_t io,
    rados_completion_t completion, const char *oid, time_t *mtime, int flags);
rados_read_op_t rados_create_read_op(void);
void rados_release_read_op(rados_read_op_t read_op);
void rados_read_op_set_flags(rados_read_op_t read_op, int flags);
void rados_read_op_assert_exists(rados_read_op_t read_op);
void rados_read_op_assert_version(rados_read_op_t read_op, uint64_t ver);
void rados_read_op_cmpext(rados_read_op_t read_op, const char *cmp_buf, size_t cmp_len,
    uint64_t off, int *prval);
void rados_read_op_cmpxattr(rados_read_op_t read_op, const char *name, uint8_t comparison_operator,
    const char *value, size_t value_len);
void rados_read_op_getxattrs(rados_read_op_t read_op, rados_xattrs_iter_t *iter, int *prval);
void rados_read_op_omap_cmp(rados_read_op_t read_op, const char *key, uint8_t comparison_operator,
    const char *val, size_t val_len, int *prval);
void rados_read_op_omap_cmp2(rados_read_op_t read_op, const char *key, uint8_t comparison_operator,
    const char *val, size_t key_len, size_t val_len, int *prval);
void rados_read_op_stat(rados_read_op_t read_op, uint64_t *psize, time_t *pmtime, int *prval);
void rados_read_op_read(rados_read_op_t read_op, uint64_t offset, size_t len, char *buffer,
    size_t *bytes_read, int *prval);
void rados_read_op_checksum(rados_read_op_t read_op, rados_checksum_type_t type,
    const char *init_value, size_t init_value_len, uint64_t offset, size_t len, size_t chunk_size,
    char *pchecksum, size_t checksum_len, int *prval);
void rados_read_op_exec(rados_read_op_t read_op, const char *cls, const char *method,
    const char *in_buf, size_t in_len, char **out_buf, size_t *out_len, int *prval);
void rados_read_op_exec_user_buf(rados_read_op_t read_op, const char *cls, const char *method,
    const char *in_buf, size_t in_len, char *out_buf, size_t out_len, size_t *used_len, int *prval);
void rados_read_op_omap_get_vals(rados_read_op_t read_op, const char *start_after,
    const char *filter_prefix, uint64_t max_return, rados_omap_iter_t *iter, int *prval);
void rados_read_op_omap_get_vals2(rados_read_op_t read_op, const char *start_after,
    const char *filter_prefix, uint64_t max_return, rados_omap_iter_t *iter, unsigned char *pmore,
    int *prval);
void rados_read_op_omap_get_keys(rados_read_op_t read_op, const char *start_after,
    uint64_t max_return, rados_omap_iter_t *iter, int *prval);
void rados_read_op_omap_get_keys2(rados_read_op_t read_op, const char *start_after,
    uint64_t max_return, rados_omap_iter_t *iter, unsigned char *pmore, int *prval);
void rados_read_op_omap_get_vals_by_keys(rados_read_op_t read_op, const char * const *keys,
    size_t keys_len, rados_omap_iter_t *iter, int *prval);
void rados_read_op_omap_get_vals_by_keys2(rados_read_op_t read_op, const char * const *keys,
    size_t num_keys, const size_t *key_lens, rados_omap_iter_t *iter, int *prval);
int rados_read_op_operate(rados_read_op_t read_op, rados_ioctx_t io, const char *oid, int flags);
int rados_aio_read_op_operate(rados_read_op_t read_op, rados_ioctx_t io,
    rados_completion_t completion, const char *oid, int flags);

/* since 18.2 */
int rados_aio_write_op_operate2(rados_write_op_t write_op, rados_ioctx_t io,
    rados_completion_t completion, const char *oid, struct timespec *mtime, int flags);
void rados_read_op_stat2(rados_read_op_t read_op, uint64_t *psize, struct timespec *pmtime,
    int *prval);
