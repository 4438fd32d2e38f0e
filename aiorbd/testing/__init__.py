"""A real Ceph cluster for tests: a monitor and memory-backed OSDs as child processes, ready in seconds."""

from aiorbd.testing.cluster import DevCluster
from aiorbd.testing.config import ClusterConfig, MissingDaemonError
from aiorbd.testing.mirror import MirrorPair

__all__ = ["ClusterConfig", "DevCluster", "MirrorPair", "MissingDaemonError"]
