/* Copying and flattening. */

/* since 16.2 */
int rbd_copy(rbd_image_t image, rados_ioctx_t dest_io_ctx, const char *destname);
int rbd_copy2(rbd_image_t src, rbd_image_t dest);
int rbd_copy3(rbd_image_t src, rados_ioctx_t dest_io_ctx, const char *destname,
    rbd_image_options_t dest_opts);
int rbd_copy4(rbd_image_t src, rados_ioctx_t dest_io_ctx, const char *destname,
    rbd_image_options_t dest_opts, size_t sparse_size);
int rbd_copy_with_progress(rbd_image_t image, rados_ioctx_t dest_p, const char *destname,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_copy_with_progress2(rbd_image_t src, rbd_image_t dest, librbd_progress_fn_t cb,
    void *cbdata);
int rbd_copy_with_progress3(rbd_image_t image, rados_ioctx_t dest_p, const char *destname,
    rbd_image_options_t dest_opts, librbd_progress_fn_t cb, void *cbdata);
int rbd_copy_with_progress4(rbd_image_t image, rados_ioctx_t dest_p, const char *destname,
    rbd_image_options_t dest_opts, librbd_progress_fn_t cb, void *cbdata, size_t sparse_size);
int rbd_deep_copy(rbd_image_t src, rados_ioctx_t dest_io_ctx, const char *destname,
    rbd_image_options_t dest_opts);
int rbd_deep_copy_with_progress(rbd_image_t image, rados_ioctx_t dest_io_ctx, const char *destname,
    rbd_image_options_t dest_opts, librbd_progress_fn_t cb, void *cbdata);
