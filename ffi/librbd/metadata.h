/* Key-value metadata of an image. */

/* since 16.2 */
int rbd_metadata_get(rbd_image_t image, const char *key, char *value, size_t *val_len);
int rbd_metadata_set(rbd_image_t image, const char *key, const char *value);
int rbd_metadata_remove(rbd_image_t image, const char *key);
int rbd_metadata_list(rbd_image_t image, const char *start, uint64_t max, char *keys,
    size_t *key_len, char *values, size_t *vals_len);
