/* Creating, listing, removing, renaming, opening and closing images. */

/* since 16.2 */
int rbd_list(rados_ioctx_t io, char *names, size_t *size);
int rbd_list2(rados_ioctx_t io, rbd_image_spec_t *images, size_t *max_images);
int rbd_create(rados_ioctx_t io, const char *name, uint64_t size, int *order);
int rbd_create2(rados_ioctx_t io, const char *name, uint64_t size, uint64_t features, int *order);
int rbd_create3(rados_ioctx_t io, const char *name, uint64_t size, uint64_t features, int *order,
    uint64_t stripe_unit, uint64_t stripe_count);
int rbd_create4(rados_ioctx_t io, const char *name, uint64_t size, rbd_image_options_t opts);
int rbd_remove(rados_ioctx_t io, const char *name);
int rbd_remove_with_progress(rados_ioctx_t io, const char *name, librbd_progress_fn_t cb,
    void *cbdata);
int rbd_rename(rados_ioctx_t src_io_ctx, const char *srcname, const char *destname);
int rbd_open(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap_name);
int rbd_open_by_id(rados_ioctx_t io, const char *id, rbd_image_t *image, const char *snap_name);
int rbd_aio_open(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap_name,
    rbd_completion_t c);
int rbd_aio_open_by_id(rados_ioctx_t io, const char *id, rbd_image_t *image, const char *snap_name,
    rbd_completion_t c);
int rbd_open_read_only(rados_ioctx_t io, const char *name, rbd_image_t *image,
    const char *snap_name);
int rbd_open_by_id_read_only(rados_ioctx_t io, const char *id, rbd_image_t *image,
    const char *snap_name);
int rbd_aio_open_read_only(rados_ioctx_t io, const char *name, rbd_image_t *image,
    const char *snap_name, rbd_completion_t c);
int rbd_aio_open_by_id_read_only(rados_ioctx_t io, const char *id, rbd_image_t *image,
    const char *snap_name, rbd_completion_t c);
int rbd_close(rbd_image_t image);
int rbd_aio_close(rbd_image_t image, rbd_completion_t c);
