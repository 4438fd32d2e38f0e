/* Commands to monitors, managers, OSDs and placement groups. */

/* since 16.2 */
int rados_mon_command(rados_t cluster, const char **cmd, size_t cmdlen, const char *inbuf,
    size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs, size_t *outslen);
int rados_mgr_command(rados_t cluster, const char **cmd, size_t cmdlen, const char *inbuf,
    size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs, size_t *outslen);
int rados_mgr_command_target(rados_t cluster, const char *name, const char **cmd, size_t cmdlen,
    const char *inbuf, size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs,
    size_t *outslen);
int rados_mon_command_target(rados_t cluster, const char *name, const char **cmd, size_t cmdlen,
    const char *inbuf, size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs,
    size_t *outslen);
void rados_buffer_free(char *buf);
int rados_osd_command(rados_t cluster, int osdid, const char **cmd, size_t cmdlen,
    const char *inbuf, size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs,
    size_t *outslen);
int rados_pg_command(rados_t cluster, const char *pgstr, const char **cmd, size_t cmdlen,
    const char *inbuf, size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs,
    size_t *outslen);
