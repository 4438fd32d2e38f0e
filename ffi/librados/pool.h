/* Pools and their application tags. */

/* since 16.2 */
int rados_pool_list(rados_t cluster, char *buf, size_t len);
int64_t rados_pool_lookup(rados_t cluster, const char *pool_name);
int rados_pool_reverse_lookup(rados_t cluster, int64_t id, char *buf, size_t maxlen);
int rados_pool_create(rados_t cluster, const char *pool_name);
int rados_pool_create_with_crush_rule(rados_t cluster, const char *pool_name,
    uint8_t crush_rule_num);
int rados_pool_delete(rados_t cluster, const char *pool_name);
int rados_application_enable(rados_ioctx_t io, const char *app_name, int force);
int rados_application_list(rados_ioctx_t io, char *values, size_t *values_len);
int rados_application_metadata_get(rados_ioctx_t io, const char *app_name, const char *key,
    char *value, size_t *value_len);
int rados_application_metadata_set(rados_ioctx_t io, const char *app_name, const char *key,
    const char *value);
int rados_application_metadata_remove(rados_ioctx_t io, const char *app_name, const char *key);
int rados_application_metadata_list(rados_ioctx_t io, const char *app_name, char *keys,
    size_t *key_len, char *values, size_t *vals_len);
