/* Live migration. */

typedef enum {
  RBD_IMAGE_MIGRATION_STATE_UNKNOWN = -1,
  RBD_IMAGE_MIGRATION_STATE_ERROR = 0,
  RBD_IMAGE_MIGRATION_STATE_PREPARING = 1,
  RBD_IMAGE_MIGRATION_STATE_PREPARED = 2,
  RBD_IMAGE_MIGRATION_STATE_EXECUTING = 3,
  RBD_IMAGE_MIGRATION_STATE_EXECUTED = 4,
  RBD_IMAGE_MIGRATION_STATE_ABORTING = 5
} rbd_image_migration_state_t;

typedef struct {
  int64_t source_pool_id;
  char *source_pool_namespace;
  char *source_image_name;
  char *source_image_id;
  int64_t dest_pool_id;
  char *dest_pool_namespace;
  char *dest_image_name;
  char *dest_image_id;
  rbd_image_migration_state_t state;
  char *state_description;
} rbd_image_migration_status_t;

/* since 16.2 */
int rbd_migration_prepare(rados_ioctx_t ioctx, const char *image_name, rados_ioctx_t dest_ioctx,
    const char *dest_image_name, rbd_image_options_t opts);
int rbd_migration_prepare_import(const char *source_spec, rados_ioctx_t dest_ioctx,
    const char *dest_image_name, rbd_image_options_t opts);
int rbd_migration_execute(rados_ioctx_t ioctx, const char *image_name);
int rbd_migration_execute_with_progress(rados_ioctx_t ioctx, const char *image_name,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_migration_abort(rados_ioctx_t ioctx, const char *image_name);
int rbd_migration_abort_with_progress(rados_ioctx_t ioctx, const char *image_name,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_migration_commit(rados_ioctx_t ioctx, const char *image_name);
int rbd_migration_commit_with_progress(rados_ioctx_t ioctx, const char *image_name,
    librbd_progress_fn_t cb, void *cbdata);
int rbd_migration_status(rados_ioctx_t ioctx, const char *image_name,
    rbd_image_migration_status_t *status, size_t status_size);
void rbd_migration_status_cleanup(rbd_image_migration_status_t *status);
int rbd_get_migration_source_spec(rbd_image_t image, char *source_spec, size_t *max_len);
