/* Options for creating, cloning, copying and migrating images. */

enum {
  RBD_IMAGE_OPTION_FORMAT = 0,
  RBD_IMAGE_OPTION_FEATURES = 1,
  RBD_IMAGE_OPTION_ORDER = 2,
  RBD_IMAGE_OPTION_STRIPE_UNIT = 3,
  RBD_IMAGE_OPTION_STRIPE_COUNT = 4,
  RBD_IMAGE_OPTION_JOURNAL_ORDER = 5,
  RBD_IMAGE_OPTION_JOURNAL_SPLAY_WIDTH = 6,
  RBD_IMAGE_OPTION_JOURNAL_POOL = 7,
  RBD_IMAGE_OPTION_FEATURES_SET = 8,
  RBD_IMAGE_OPTION_FEATURES_CLEAR = 9,
  RBD_IMAGE_OPTION_DATA_POOL = 10,
  RBD_IMAGE_OPTION_FLATTEN = 11,
  RBD_IMAGE_OPTION_CLONE_FORMAT = 12,
  RBD_IMAGE_OPTION_MIRROR_IMAGE_MODE = 13
};

/* since 16.2 */
void rbd_image_options_create(rbd_image_options_t *opts);
void rbd_image_options_destroy(rbd_image_options_t opts);
int rbd_image_options_set_string(rbd_image_options_t opts, int optname, const char *optval);
int rbd_image_options_set_uint64(rbd_image_options_t opts, int optname, uint64_t optval);
int rbd_image_options_get_string(rbd_image_options_t opts, int optname, char *optval,
    size_t maxlen);
int rbd_image_options_get_uint64(rbd_image_options_t opts, int optname, uint64_t *optval);
int rbd_image_options_is_set(rbd_image_options_t opts, int optname, bool *is_set);
int rbd_image_options_unset(rbd_image_options_t opts, int optname);
void rbd_image_options_clear(rbd_image_options_t opts);
int rbd_image_options_is_empty(rbd_image_options_t opts);
