/* Clones, parents and children. */

typedef struct {
  const char *pool_name;
  const char *image_name;
  const char *image_id;
  bool trash;
} rbd_child_info_t;

/* since 16.2 */
int rbd_clone(rados_ioctx_t p_ioctx, const char *p_name, const char *p_snapname,
    rados_ioctx_t c_ioctx, const char *c_name, uint64_t features, int *c_order);
int rbd_clone2(rados_ioctx_t p_ioctx, const char *p_name, const char *p_snapname,
    rados_ioctx_t c_ioctx, const char *c_name, uint64_t features, int *c_order,
    uint64_t stripe_unit, int stripe_count);
int rbd_clone3(rados_ioctx_t p_ioctx, const char *p_name, const char *p_snapname,
    rados_ioctx_t c_ioctx, const char *c_name, rbd_image_options_t c_opts);
int rbd_get_overlap(rbd_image_t image, uint64_t *overlap);
int rbd_get_parent_info(rbd_image_t image, char *parent_poolname, size_t ppoolnamelen,
    char *parent_name, size_t pnamelen, char *parent_snapname, size_t psnapnamelen);
int rbd_get_parent_info2(rbd_image_t image, char *parent_poolname, size_t ppoolnamelen,
    char *parent_name, size_t pnamelen, char *parent_id, size_t pidlen, char *parent_snapname,
    size_t psnapnamelen);
int rbd_get_parent(rbd_image_t image, rbd_linked_image_spec_t *parent_image,
    rbd_snap_spec_t *parent_snap);
int rbd_flatten(rbd_image_t image);
int rbd_flatten_with_progress(rbd_image_t image, librbd_progress_fn_t cb, void *cbdata);
ssize_t rbd_list_children(rbd_image_t image, char *pools, size_t *pools_len, char *images,
    size_t *images_len);
int rbd_list_children2(rbd_image_t image, rbd_child_info_t *children, int *max_children);
void rbd_list_child_cleanup(rbd_child_info_t *child);
void rbd_list_children_cleanup(rbd_child_info_t *children, size_t num_children);
int rbd_list_children3(rbd_image_t image, rbd_linked_image_spec_t *images, size_t *max_images);
int rbd_list_descendants(rbd_image_t image, rbd_linked_image_spec_t *images, size_t *max_images);

/* since 19.2 */
int rbd_clone4(rados_ioctx_t p_ioctx, const char *p_name, uint64_t p_snap_id, rados_ioctx_t c_ioctx,
    const char *c_name, rbd_image_options_t c_opts);
