/* Namespaces of a pool. */

/* since 16.2 */
int rbd_namespace_create(rados_ioctx_t io, const char *namespace_name);
int rbd_namespace_remove(rados_ioctx_t io, const char *namespace_name);
int rbd_namespace_list(rados_ioctx_t io, char *namespace_names, size_t *size);
int rbd_namespace_exists(rados_ioctx_t io, const char *namespace_name, bool *exists);
