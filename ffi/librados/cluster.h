/* Connecting, configuration, cluster-wide state. */

typedef void (*rados_log_callback2_t)(void *arg, const char *line, const char *channel,
    const char *who, const char *name, uint64_t sec, uint64_t nsec, uint64_t seq, const char *level,
    const char *msg);

struct rados_cluster_stat_t {
  uint64_t kb;
  uint64_t kb_used;
  uint64_t kb_avail;
  uint64_t num_objects;
};

/* since 16.2 */
void rados_version(int *major, int *minor, int *extra);
int rados_create(rados_t *cluster, const char * const id);
int rados_create2(rados_t *pcluster, const char * const clustername, const char * const name,
    uint64_t flags);
int rados_ping_monitor(rados_t cluster, const char *mon_id, char **outstr, size_t *outstrlen);
int rados_connect(rados_t cluster);
void rados_shutdown(rados_t cluster);
int rados_conf_read_file(rados_t cluster, const char *path);
int rados_conf_parse_argv(rados_t cluster, int argc, const char **argv);
int rados_conf_parse_argv_remainder(rados_t cluster, int argc, const char **argv,
    const char **remargv);
int rados_conf_parse_env(rados_t cluster, const char *var);
int rados_conf_set(rados_t cluster, const char *option, const char *value);
int rados_conf_get(rados_t cluster, const char *option, char *buf, size_t len);
int rados_cluster_stat(rados_t cluster, struct rados_cluster_stat_t *result);
int rados_cluster_fsid(rados_t cluster, char *buf, size_t len);
int rados_wait_for_latest_osdmap(rados_t cluster);
uint64_t rados_get_instance_id(rados_t cluster);
int rados_get_min_compatible_osd(rados_t cluster, int8_t *require_osd_release);
int rados_get_min_compatible_client(rados_t cluster, int8_t *min_compat_client,
    int8_t *require_min_compat_client);
int rados_blocklist_add(rados_t cluster, char *client_address, uint32_t expire_seconds);
int rados_getaddrs(rados_t cluster, char **addrs);
int rados_monitor_log2(rados_t cluster, const char *level, rados_log_callback2_t cb, void *arg);
int rados_service_register(rados_t cluster, const char *service, const char *daemon,
    const char *metadata_dict);
int rados_service_update_status(rados_t cluster, const char *status_dict);
