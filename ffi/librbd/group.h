/* Consistency groups and their snapshots. */

typedef enum {
  RBD_GROUP_IMAGE_STATE_ATTACHED,
  RBD_GROUP_IMAGE_STATE_INCOMPLETE
} rbd_group_image_state_t;

typedef struct {
  char *name;
  int64_t pool;
  rbd_group_image_state_t state;
} rbd_group_image_info_t;

typedef struct {
  char *name;
  int64_t pool;
} rbd_group_info_t;

typedef enum {
  RBD_GROUP_SNAP_STATE_INCOMPLETE,
  RBD_GROUP_SNAP_STATE_COMPLETE
} rbd_group_snap_state_t;

typedef enum {
  RBD_GROUP_SNAP_NAMESPACE_TYPE_USER = 0
} rbd_group_snap_namespace_type_t;

typedef struct {
  char *image_name;
  int64_t pool_id;
  uint64_t snap_id;
} rbd_group_image_snap_info_t;

typedef struct {
  char *name;
  rbd_group_snap_state_t state;
} rbd_group_snap_info_t;

typedef struct {
  char *id;
  char *name;
  char *image_snap_name;
  rbd_group_snap_state_t state;
  rbd_group_snap_namespace_type_t namespace_type;
  size_t image_snaps_count;
  rbd_group_image_snap_info_t *image_snaps;
} rbd_group_snap_info2_t;

/* since 16.2 */
int rbd_get_group(rbd_image_t image, rbd_group_info_t *group_info, size_t group_info_size);
int rbd_group_create(rados_ioctx_t p, const char *name);
int rbd_group_remove(rados_ioctx_t p, const char *name);
int rbd_group_list(rados_ioctx_t p, char *names, size_t *size);
int rbd_group_rename(rados_ioctx_t p, const char *src_name, const char *dest_name);
int rbd_group_info_cleanup(rbd_group_info_t *group_info, size_t group_info_size);
int rbd_group_image_add(rados_ioctx_t group_p, const char *group_name, rados_ioctx_t image_p,
    const char *image_name);
int rbd_group_image_remove(rados_ioctx_t group_p, const char *group_name, rados_ioctx_t image_p,
    const char *image_name);
int rbd_group_image_remove_by_id(rados_ioctx_t group_p, const char *group_name,
    rados_ioctx_t image_p, const char *image_id);
int rbd_group_image_list(rados_ioctx_t group_p, const char *group_name,
    rbd_group_image_info_t *images, size_t group_image_info_size, size_t *num_entries);
int rbd_group_image_list_cleanup(rbd_group_image_info_t *images, size_t group_image_info_size,
    size_t num_entries);
int rbd_group_snap_create(rados_ioctx_t group_p, const char *group_name, const char *snap_name);
int rbd_group_snap_create2(rados_ioctx_t group_p, const char *group_name, const char *snap_name,
    uint32_t flags);
int rbd_group_snap_remove(rados_ioctx_t group_p, const char *group_name, const char *snap_name);
int rbd_group_snap_rename(rados_ioctx_t group_p, const char *group_name, const char *old_snap_name,
    const char *new_snap_name);
int rbd_group_snap_list(rados_ioctx_t group_p, const char *group_name, rbd_group_snap_info_t *snaps,
    size_t group_snap_info_size, size_t *num_entries);
int rbd_group_snap_list_cleanup(rbd_group_snap_info_t *snaps, size_t group_snap_info_size,
    size_t num_entries);
int rbd_group_snap_rollback(rados_ioctx_t group_p, const char *group_name, const char *snap_name);
int rbd_group_snap_rollback_with_progress(rados_ioctx_t group_p, const char *group_name,
    const char *snap_name, librbd_progress_fn_t cb, void *cbdata);

/* since 20.2 */
int rbd_group_get_id(rados_ioctx_t p, const char *group_name, char *group_id, size_t *size);
int rbd_group_snap_list2(rados_ioctx_t group_p, const char *group_name,
    rbd_group_snap_info2_t *snaps, size_t *num_entries);
void rbd_group_snap_list2_cleanup(rbd_group_snap_info2_t *snaps, size_t num_entries);
int rbd_group_snap_get_info(rados_ioctx_t group_p, const char *group_name, const char *snap_name,
    rbd_group_snap_info2_t *group_snap);
void rbd_group_snap_get_info_cleanup(rbd_group_snap_info2_t *group_snap);
