/* Snapshots and their namespaces. */

enum {
  RBD_SNAP_CREATE_SKIP_QUIESCE = 1,
  RBD_SNAP_CREATE_IGNORE_QUIESCE_ERROR = 2
};

enum {
  RBD_SNAP_REMOVE_UNPROTECT = 1,
  RBD_SNAP_REMOVE_FLATTEN = 2,
  RBD_SNAP_REMOVE_FORCE = 3
};

typedef struct {
  uint64_t id;
  uint64_t size;
  const char *name;
} rbd_snap_info_t;

typedef struct {
  int64_t group_pool;
  char *group_name;
  char *group_snap_name;
} rbd_snap_group_namespace_t;

typedef struct {
  rbd_snap_namespace_type_t original_namespace_type;
  char *original_name;
} rbd_snap_trash_namespace_t;

typedef enum {
  RBD_SNAP_MIRROR_STATE_PRIMARY,
  RBD_SNAP_MIRROR_STATE_PRIMARY_DEMOTED,
  RBD_SNAP_MIRROR_STATE_NON_PRIMARY,
  RBD_SNAP_MIRROR_STATE_NON_PRIMARY_DEMOTED
} rbd_snap_mirror_state_t;

typedef struct {
  rbd_snap_mirror_state_t state;
  size_t mirror_peer_uuids_count;
  char *mirror_peer_uuids;
  bool complete;
  char *primary_mirror_uuid;
  uint64_t primary_snap_id;
  uint64_t last_copied_object_number;
} rbd_snap_mirror_namespace_t;

/* since 16.2 */
int rbd_snap_list(rbd_image_t image, rbd_snap_info_t *snaps, int *max_snaps);
void rbd_snap_list_end(rbd_snap_info_t *snaps);
int rbd_snap_exists(rbd_image_t image, const char *snapname, bool *exists);
int rbd_snap_create(rbd_image_t image, const char *snapname);
int rbd_snap_create2(rbd_image_t image, const char *snap_name, uint32_t flags,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_snap_remove(rbd_image_t image, const char *snapname);
int rbd_snap_remove2(rbd_image_t image, const char *snap_name, uint32_t flags,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_snap_remove_by_id(rbd_image_t image, uint64_t snap_id);
int rbd_snap_rollback(rbd_image_t image, const char *snapname);
int rbd_snap_rollback_with_progress(rbd_image_t image, const char *snapname,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_snap_rename(rbd_image_t image, const char *snapname, const char *dstsnapsname);
int rbd_snap_protect(rbd_image_t image, const char *snap_name);
int rbd_snap_unprotect(rbd_image_t image, const char *snap_name);
int rbd_snap_is_protected(rbd_image_t image, const char *snap_name, int *is_protected);
int rbd_snap_get_limit(rbd_image_t image, uint64_t *limit);
int rbd_snap_set_limit(rbd_image_t image, uint64_t limit);
int rbd_snap_get_timestamp(rbd_image_t image, uint64_t snap_id, struct timespec *timestamp);
int rbd_snap_set(rbd_image_t image, const char *snapname);
int rbd_snap_set_by_id(rbd_image_t image, uint64_t snap_id);
int rbd_snap_get_name(rbd_image_t image, uint64_t snap_id, char *snapname, size_t *name_len);
int rbd_snap_get_id(rbd_image_t image, const char *snapname, uint64_t *snap_id);
int rbd_snap_get_namespace_type(rbd_image_t image, uint64_t snap_id,
    rbd_snap_namespace_type_t *namespace_type);
int rbd_snap_get_group_namespace(rbd_image_t image, uint64_t snap_id,
    rbd_snap_group_namespace_t *group_snap, size_t group_snap_size);
int rbd_snap_group_namespace_cleanup(rbd_snap_group_namespace_t *group_snap,
    size_t group_snap_size);
int rbd_snap_get_trash_namespace(rbd_image_t image, uint64_t snap_id, char *original_name,
    size_t max_length);
int rbd_snap_get_mirror_namespace(rbd_image_t image, uint64_t snap_id,
    rbd_snap_mirror_namespace_t *mirror_snap, size_t mirror_snap_size);
int rbd_snap_mirror_namespace_cleanup(rbd_snap_mirror_namespace_t *mirror_snap,
    size_t mirror_snap_size);

/* since 19.2 */
int rbd_snap_get_trash_namespace2(rbd_image_t image, uint64_t snap_id,
    rbd_snap_trash_namespace_t *trash_snap, size_t trash_snap_size);
int rbd_snap_trash_namespace_cleanup(rbd_snap_trash_namespace_t *trash_snap,
    size_t trash_snap_size);
