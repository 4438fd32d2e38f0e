/* The end of a process with connections that are still open. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

#ifdef __GLIBC__
/* Like exit(), this flushes without a wait for the lock of a stream, which a thread that reads a terminal may hold. */
static void end_now(int status, void *unused)
{
    (void)unused;
    fflush_unlocked(stdout);
    fflush_unlocked(stderr);
    _exit(status);
}
#endif

/* Any thread. The handler registered last runs first, so this one forestalls those of Ceph's libraries. Without memory
 * for it, or without on_exit(), which only glibc has, all handlers run. */
void aiorbd_exit_at_once(void)
{
#ifdef __GLIBC__
    (void)on_exit(end_now, NULL);
#endif
}
