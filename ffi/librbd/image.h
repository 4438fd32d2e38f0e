/* What an image is, and its upkeep. */

typedef struct {
  uint64_t size;
  uint64_t obj_size;
  uint64_t num_objs;
  int order;
  char block_name_prefix[24];
  int64_t parent_pool;
  char parent_name[96];
} rbd_image_info_t;

/* since 16.2 */
void rbd_image_spec_cleanup(rbd_image_spec_t *image);
void rbd_image_spec_list_cleanup(rbd_image_spec_t *images, size_t num_images);
void rbd_linked_image_spec_cleanup(rbd_linked_image_spec_t *image);
void rbd_linked_image_spec_list_cleanup(rbd_linked_image_spec_t *images, size_t num_images);
void rbd_snap_spec_cleanup(rbd_snap_spec_t *snap);
int rbd_resize(rbd_image_t image, uint64_t size);
int rbd_resize2(rbd_image_t image, uint64_t size, bool allow_shrink, librbd_progress_fn_t cb,
    void *cbdata);
int rbd_resize_with_progress(rbd_image_t image, uint64_t size, librbd_progress_fn_t cb,
    void *cbdata);
int rbd_stat(rbd_image_t image, rbd_image_info_t *info, size_t infosize);
int rbd_get_old_format(rbd_image_t image, uint8_t *old);
int rbd_get_size(rbd_image_t image, uint64_t *size);
int rbd_get_features(rbd_image_t image, uint64_t *features);
int rbd_update_features(rbd_image_t image, uint64_t features, uint8_t enabled);
int rbd_get_op_features(rbd_image_t image, uint64_t *op_features);
int rbd_get_stripe_unit(rbd_image_t image, uint64_t *stripe_unit);
int rbd_get_stripe_count(rbd_image_t image, uint64_t *stripe_count);
int rbd_get_create_timestamp(rbd_image_t image, struct timespec *timestamp);
int rbd_get_access_timestamp(rbd_image_t image, struct timespec *timestamp);
int rbd_get_modify_timestamp(rbd_image_t image, struct timespec *timestamp);
int rbd_get_name(rbd_image_t image, char *name, size_t *name_len);
int rbd_get_id(rbd_image_t image, char *id, size_t id_len);
int rbd_get_block_name_prefix(rbd_image_t image, char *prefix, size_t prefix_len);
int64_t rbd_get_data_pool_id(rbd_image_t image);
int rbd_get_flags(rbd_image_t image, uint64_t *flags);
int rbd_rebuild_object_map(rbd_image_t image, librbd_progress_fn_t cb, void *cbdata);
int rbd_sparsify(rbd_image_t image, size_t sparse_size);
int rbd_sparsify_with_progress(rbd_image_t image, size_t sparse_size, librbd_progress_fn_t cb,
    void *cbdata);
