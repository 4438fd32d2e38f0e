"""Start a cluster, print its directory and the ids of its processes, and wait to be killed."""

import signal
import time

from aiorbd.testing import DevCluster

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background jobs ignore
cluster = DevCluster()
cluster.start_blocking()
print(cluster.directory, *cluster._pids.values(), flush=True)
time.sleep(60)
