/* Configuration overrides of images and pools. */

typedef enum {
  RBD_CONFIG_SOURCE_CONFIG = 0,
  RBD_CONFIG_SOURCE_POOL = 1,
  RBD_CONFIG_SOURCE_IMAGE = 2
} rbd_config_source_t;

typedef struct {
  char *name;
  char *value;
  rbd_config_source_t source;
} rbd_config_option_t;

/* since 16.2 */
int rbd_config_pool_list(rados_ioctx_t io_ctx, rbd_config_option_t *options, int *max_options);
void rbd_config_pool_list_cleanup(rbd_config_option_t *options, int max_options);
int rbd_config_image_list(rbd_image_t image, rbd_config_option_t *options, int *max_options);
void rbd_config_image_list_cleanup(rbd_config_option_t *options, int max_options);
