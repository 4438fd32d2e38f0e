/* Mirroring of one image. */

/* since 16.2 */
int rbd_mirror_image_enable(rbd_image_t image);
int rbd_mirror_image_enable2(rbd_image_t image, rbd_mirror_image_mode_t mode);
int rbd_mirror_image_disable(rbd_image_t image, bool force);
int rbd_mirror_image_promote(rbd_image_t image, bool force);
int rbd_mirror_image_demote(rbd_image_t image);
int rbd_mirror_image_resync(rbd_image_t image);
int rbd_mirror_image_create_snapshot(rbd_image_t image, uint64_t *snap_id);
int rbd_mirror_image_create_snapshot2(rbd_image_t image, uint32_t flags, uint64_t *snap_id);
int rbd_mirror_image_get_info(rbd_image_t image, rbd_mirror_image_info_t *mirror_image_info,
    size_t info_size);
void rbd_mirror_image_get_info_cleanup(rbd_mirror_image_info_t *mirror_image_info);
int rbd_mirror_image_get_mode(rbd_image_t image, rbd_mirror_image_mode_t *mode);
int rbd_mirror_image_get_global_status(rbd_image_t image,
    rbd_mirror_image_global_status_t *mirror_image_global_status, size_t status_size);
void rbd_mirror_image_global_status_cleanup(
    rbd_mirror_image_global_status_t *mirror_image_global_status);
int rbd_mirror_image_get_status(rbd_image_t image, rbd_mirror_image_status_t *mirror_image_status,
    size_t status_size);
int rbd_mirror_image_get_instance_id(rbd_image_t image, char *instance_id, size_t *id_max_length);
int rbd_aio_mirror_image_promote(rbd_image_t image, bool force, rbd_completion_t c);
int rbd_aio_mirror_image_demote(rbd_image_t image, rbd_completion_t c);
int rbd_aio_mirror_image_get_info(rbd_image_t image, rbd_mirror_image_info_t *mirror_image_info,
    size_t info_size, rbd_completion_t c);
int rbd_aio_mirror_image_get_mode(rbd_image_t image, rbd_mirror_image_mode_t *mode,
    rbd_completion_t c);
int rbd_aio_mirror_image_get_global_status(rbd_image_t image,
    rbd_mirror_image_global_status_t *mirror_global_image_status, size_t status_size,
    rbd_completion_t c);
int rbd_aio_mirror_image_get_status(rbd_image_t image,
    rbd_mirror_image_status_t *mirror_image_status, size_t status_size, rbd_completion_t c);
int rbd_aio_mirror_image_create_snapshot(rbd_image_t image, uint32_t flags, uint64_t *snap_id,
    rbd_completion_t c);
