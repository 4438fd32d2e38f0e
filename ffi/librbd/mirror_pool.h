/* Mirroring of a pool and its peers. */

typedef enum {
  RBD_MIRROR_MODE_DISABLED,
  RBD_MIRROR_MODE_IMAGE,
  RBD_MIRROR_MODE_POOL,
  RBD_MIRROR_MODE_INIT_ONLY
} rbd_mirror_mode_t;

typedef enum {
  RBD_MIRROR_PEER_DIRECTION_RX = 0,
  RBD_MIRROR_PEER_DIRECTION_TX = 1,
  RBD_MIRROR_PEER_DIRECTION_RX_TX = 2
} rbd_mirror_peer_direction_t;

typedef struct {
  char *uuid;
  char *cluster_name;
  char *client_name;
} rbd_mirror_peer_t;

typedef struct {
  char *uuid;
  rbd_mirror_peer_direction_t direction;
  char *site_name;
  char *mirror_uuid;
  char *client_name;
  time_t last_seen;
} rbd_mirror_peer_site_t;

/* since 16.2 */
int rbd_mirror_site_name_get(rados_t cluster, char *name, size_t *max_len);
int rbd_mirror_site_name_set(rados_t cluster, const char *name);
int rbd_mirror_mode_get(rados_ioctx_t io_ctx, rbd_mirror_mode_t *mirror_mode);
int rbd_mirror_mode_set(rados_ioctx_t io_ctx, rbd_mirror_mode_t mirror_mode);
int rbd_mirror_uuid_get(rados_ioctx_t io_ctx, char *uuid, size_t *max_len);
int rbd_mirror_peer_bootstrap_create(rados_ioctx_t io_ctx, char *token, size_t *max_len);
int rbd_mirror_peer_bootstrap_import(rados_ioctx_t io_ctx, rbd_mirror_peer_direction_t direction,
    const char *token);
int rbd_mirror_peer_site_add(rados_ioctx_t io_ctx, char *uuid, size_t uuid_max_length,
    rbd_mirror_peer_direction_t direction, const char *site_name, const char *client_name);
int rbd_mirror_peer_site_set_name(rados_ioctx_t io_ctx, const char *uuid, const char *site_name);
int rbd_mirror_peer_site_set_client_name(rados_ioctx_t io_ctx, const char *uuid,
    const char *client_name);
int rbd_mirror_peer_site_set_direction(rados_ioctx_t io_ctx, const char *uuid,
    rbd_mirror_peer_direction_t direction);
int rbd_mirror_peer_site_remove(rados_ioctx_t io_ctx, const char *uuid);
int rbd_mirror_peer_site_list(rados_ioctx_t io_ctx, rbd_mirror_peer_site_t *peers, int *max_peers);
void rbd_mirror_peer_site_list_cleanup(rbd_mirror_peer_site_t *peers, int max_peers);
int rbd_mirror_peer_site_get_attributes(rados_ioctx_t p, const char *uuid, char *keys,
    size_t *max_key_len, char *values, size_t *max_value_len, size_t *key_value_count);
int rbd_mirror_peer_site_set_attributes(rados_ioctx_t p, const char *uuid, const char *keys,
    const char *values, size_t key_value_count);
int rbd_mirror_image_global_status_list(rados_ioctx_t io_ctx, const char *start_id, size_t max,
    char **image_ids, rbd_mirror_image_global_status_t *images, size_t *len);
void rbd_mirror_image_global_status_list_cleanup(char **image_ids,
    rbd_mirror_image_global_status_t *images, size_t len);
int rbd_mirror_peer_add(rados_ioctx_t io_ctx, char *uuid, size_t uuid_max_length,
    const char *cluster_name, const char *client_name);
int rbd_mirror_peer_remove(rados_ioctx_t io_ctx, const char *uuid);
int rbd_mirror_peer_list(rados_ioctx_t io_ctx, rbd_mirror_peer_t *peers, int *max_peers);
void rbd_mirror_peer_list_cleanup(rbd_mirror_peer_t *peers, int max_peers);
int rbd_mirror_peer_set_client(rados_ioctx_t io_ctx, const char *uuid, const char *client_name);
int rbd_mirror_peer_set_cluster(rados_ioctx_t io_ctx, const char *uuid, const char *cluster_name);
int rbd_mirror_peer_get_attributes(rados_ioctx_t p, const char *uuid, char *keys,
    size_t *max_key_len, char *values, size_t *max_value_len, size_t *key_value_count);
int rbd_mirror_peer_set_attributes(rados_ioctx_t p, const char *uuid, const char *keys,
    const char *values, size_t key_value_count);
int rbd_mirror_image_status_list(rados_ioctx_t io_ctx, const char *start_id, size_t max,
    char **image_ids, rbd_mirror_image_status_t *images, size_t *len);
void rbd_mirror_image_status_list_cleanup(char **image_ids, rbd_mirror_image_status_t *images,
    size_t len);
int rbd_mirror_image_status_summary(rados_ioctx_t io_ctx, rbd_mirror_image_status_state_t *states,
    int *counts, size_t *maxlen);
int rbd_mirror_image_instance_id_list(rados_ioctx_t io_ctx, const char *start_id, size_t max,
    char **image_ids, char **instance_ids, size_t *len);
void rbd_mirror_image_instance_id_list_cleanup(char **image_ids, char **instance_ids, size_t len);
int rbd_mirror_image_info_list(rados_ioctx_t io_ctx, rbd_mirror_image_mode_t *mode_filter,
    const char *start_id, size_t max, char **image_ids, rbd_mirror_image_mode_t *mode_entries,
    rbd_mirror_image_info_t *info_entries, size_t *num_entries);
void rbd_mirror_image_info_list_cleanup(char **image_ids, rbd_mirror_image_info_t *info_entries,
    size_t num_entries);

/* since 20.2 */
int rbd_mirror_remote_namespace_get(rados_ioctx_t io_ctx, char *remote_namespace, size_t *max_len);
int rbd_mirror_remote_namespace_set(rados_ioctx_t io_ctx, const char *remote_namespace);
