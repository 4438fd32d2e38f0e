/* Reading and writing, blocking and asynchronous. */

enum {
  RBD_WRITE_ZEROES_FLAG_THICK_PROVISION = 1
};

/* since 16.2 */
ssize_t rbd_read(rbd_image_t image, uint64_t ofs, size_t len, char *buf);
ssize_t rbd_read2(rbd_image_t image, uint64_t ofs, size_t len, char *buf, int op_flags);
int64_t rbd_read_iterate(rbd_image_t image, uint64_t ofs, size_t len,
    int (*cb)(uint64_t, size_t, const char *, void *), void *arg);
int rbd_read_iterate2(rbd_image_t image, uint64_t ofs, uint64_t len,
    int (*cb)(uint64_t, size_t, const char *, void *), void *arg);
ssize_t rbd_write(rbd_image_t image, uint64_t ofs, size_t len, const char *buf);
ssize_t rbd_write2(rbd_image_t image, uint64_t ofs, size_t len, const char *buf, int op_flags);
int rbd_discard(rbd_image_t image, uint64_t ofs, uint64_t len);
ssize_t rbd_writesame(rbd_image_t image, uint64_t ofs, size_t len, const char *buf, size_t data_len,
    int op_flags);
ssize_t rbd_write_zeroes(rbd_image_t image, uint64_t ofs, size_t len, int zero_flags, int op_flags);
ssize_t rbd_compare_and_write(rbd_image_t image, uint64_t ofs, size_t len, const char *cmp_buf,
    const char *buf, uint64_t *mismatch_off, int op_flags);
int rbd_aio_write(rbd_image_t image, uint64_t off, size_t len, const char *buf, rbd_completion_t c);
int rbd_aio_write2(rbd_image_t image, uint64_t off, size_t len, const char *buf, rbd_completion_t c,
    int op_flags);
int rbd_aio_writev(rbd_image_t image, const struct iovec *iov, int iovcnt, uint64_t off,
    rbd_completion_t c);
int rbd_aio_read(rbd_image_t image, uint64_t off, size_t len, char *buf, rbd_completion_t c);
int rbd_aio_read2(rbd_image_t image, uint64_t off, size_t len, char *buf, rbd_completion_t c,
    int op_flags);
int rbd_aio_readv(rbd_image_t image, const struct iovec *iov, int iovcnt, uint64_t off,
    rbd_completion_t c);
int rbd_aio_discard(rbd_image_t image, uint64_t off, uint64_t len, rbd_completion_t c);
int rbd_aio_writesame(rbd_image_t image, uint64_t off, size_t len, const char *buf, size_t data_len,
    rbd_completion_t c, int op_flags);
int rbd_aio_write_zeroes(rbd_image_t image, uint64_t off, size_t len, rbd_completion_t c,
    int zero_flags, int op_flags);
ssize_t rbd_aio_compare_and_write(rbd_image_t image, uint64_t off, size_t len, const char *cmp_buf,
    const char *buf, rbd_completion_t c, uint64_t *mismatch_off, int op_flags);
int rbd_flush(rbd_image_t image);
int rbd_aio_flush(rbd_image_t image, rbd_completion_t c);
int rbd_invalidate_cache(rbd_image_t image);

/* since 17.2 */
ssize_t rbd_aio_compare_and_writev(rbd_image_t image, uint64_t off, const struct iovec *cmp_iov,
    int cmp_iovcnt, const struct iovec *iov, int iovcnt, rbd_completion_t c, uint64_t *mismatch_off,
    int op_flags);

/* since 20.2 */
int rbd_aio_write_with_crc32c(rbd_image_t image, uint64_t off, size_t len, const char *buf,
    uint32_t precomputed_crc32c, rbd_completion_t c, int op_flags);
