/*
 * The system types the prototypes name, spelled out because this text is read without any system
 * header. True of every 64-bit Linux, the only platform Ceph's libraries are built for today.
 */

typedef long time_t;

struct iovec {
  void *iov_base;
  size_t iov_len;
};

struct timespec {
  long tv_sec;
  long tv_nsec;
};

struct timeval {
  long tv_sec;
  long tv_usec;
};
