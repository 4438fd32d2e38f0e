/* Library version and feature names. */

/* since 16.2 */
void rbd_version(int *major, int *minor, int *extra);
int rbd_features_to_string(uint64_t features, char *str_features, size_t *size);
int rbd_features_from_string(const char *str_features, uint64_t *features);
