/* Handles, callbacks and types that several topics share. */

#define RBD_FEATURE_LAYERING 1
#define RBD_FEATURE_STRIPINGV2 2
#define RBD_FEATURE_JOURNALING 64
#define RBD_FEATURE_OPERATIONS 256
#define RBD_FEATURE_MIGRATING 512
#define RBD_FEATURES_DEFAULT 61
#define RBD_FEATURES_INTERNAL 768
#define RBD_FEATURES_INCOMPATIBLE 2179
#define RBD_FEATURES_MUTABLE 3164
#define RBD_FEATURES_ALL 4095
#define RBD_FEATURES_DISABLE_ONLY 32
#define RBD_FEATURES_IMPLICIT_ENABLE 3986
#define RBD_FEATURES_MUTABLE_INTERNAL 3072
#define RBD_FEATURES_RW_INCOMPATIBLE 4095
#define RBD_FEATURES_SINGLE_CLIENT 2140
#define RBD_FEATURE_DATA_POOL 128
#define RBD_FEATURE_DEEP_FLATTEN 32
#define RBD_FEATURE_DIRTY_CACHE 2048
#define RBD_FEATURE_EXCLUSIVE_LOCK 4
#define RBD_FEATURE_FAST_DIFF 16
#define RBD_FEATURE_NON_PRIMARY 1024
#define RBD_FEATURE_OBJECT_MAP 8
#define RBD_FLAG_FAST_DIFF_INVALID 2
#define RBD_FLAG_OBJECT_MAP_INVALID 1
#define RBD_OPERATION_FEATURE_GROUP 4
#define RBD_OPERATION_FEATURES_ALL 15
#define RBD_OPERATION_FEATURE_CLONE_PARENT 1
#define RBD_OPERATION_FEATURE_CLONE_CHILD 2
#define RBD_OPERATION_FEATURE_SNAP_TRASH 8

typedef void *rbd_image_t;
typedef void *rbd_image_options_t;
typedef void *rbd_completion_t;
typedef int (*librbd_progress_fn_t)(uint64_t offset, uint64_t total, void *ptr);

typedef enum {
  RBD_SNAP_NAMESPACE_TYPE_USER = 0,
  RBD_SNAP_NAMESPACE_TYPE_GROUP = 1,
  RBD_SNAP_NAMESPACE_TYPE_TRASH = 2,
  RBD_SNAP_NAMESPACE_TYPE_MIRROR = 3
} rbd_snap_namespace_type_t;

typedef struct {
  char *id;
  char *name;
} rbd_image_spec_t;

typedef struct {
  int64_t pool_id;
  char *pool_name;
  char *pool_namespace;
  char *image_id;
  char *image_name;
  bool trash;
} rbd_linked_image_spec_t;

typedef struct {
  uint64_t id;
  rbd_snap_namespace_type_t namespace_type;
  char *name;
} rbd_snap_spec_t;

typedef enum {
  RBD_MIRROR_IMAGE_MODE_JOURNAL = 0,
  RBD_MIRROR_IMAGE_MODE_SNAPSHOT = 1
} rbd_mirror_image_mode_t;

typedef enum {
  RBD_MIRROR_IMAGE_DISABLING = 0,
  RBD_MIRROR_IMAGE_ENABLED = 1,
  RBD_MIRROR_IMAGE_DISABLED = 2,
  RBD_MIRROR_IMAGE_CREATING = 3
} rbd_mirror_image_state_t;

typedef struct {
  char *global_id;
  rbd_mirror_image_state_t state;
  bool primary;
} rbd_mirror_image_info_t;

typedef enum {
  MIRROR_IMAGE_STATUS_STATE_UNKNOWN = 0,
  MIRROR_IMAGE_STATUS_STATE_ERROR = 1,
  MIRROR_IMAGE_STATUS_STATE_SYNCING = 2,
  MIRROR_IMAGE_STATUS_STATE_STARTING_REPLAY = 3,
  MIRROR_IMAGE_STATUS_STATE_REPLAYING = 4,
  MIRROR_IMAGE_STATUS_STATE_STOPPING_REPLAY = 5,
  MIRROR_IMAGE_STATUS_STATE_STOPPED = 6
} rbd_mirror_image_status_state_t;

typedef struct {
  char *name;
  rbd_mirror_image_info_t info;
  rbd_mirror_image_status_state_t state;
  char *description;
  time_t last_update;
  bool up;
} rbd_mirror_image_status_t;

typedef struct {
  char *mirror_uuid;
  rbd_mirror_image_status_state_t state;
  char *description;
  time_t last_update;
  bool up;
} rbd_mirror_image_site_status_t;

typedef struct {
  char *name;
  rbd_mirror_image_info_t info;
  uint32_t site_statuses_count;
  rbd_mirror_image_site_status_t *site_statuses;
} rbd_mirror_image_global_status_t;
