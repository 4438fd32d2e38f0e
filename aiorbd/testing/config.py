"""The parts of a development cluster, and its configuration file."""

import shutil
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: The Debian package of each program.
PACKAGES = {
    "ceph": "ceph-common",
    "ceph-authtool": "ceph-common",
    "ceph-mgr": "ceph-mgr",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "monmaptool": "ceph-base",
    "rbd": "ceph-common",
    "rbd-mirror": "rbd-mirror",
}


class MissingDaemonError(RuntimeError):
    """A program of Ceph is not installed. The message names the program's package."""


#: Options of a mirror daemon that lets tests wait for a second instead of half a minute.
_MIRROR = {
    "rbd mirror pool replayers refresh interval": "1",
    "rbd mirror image state check interval": "1",
    "rbd mirror leader heartbeat interval": "1",
    "rbd mirror leader max acquire attempts before break": "1",  # take over from a killed daemon
    "rbd mirror sync point update age": "1",
    "rbd mirror journal poll age": "0.2",  # a new entry of a journal waits for the next poll
    "rbd journal commit age": "0.1",
}


@dataclass(frozen=True)
class ClusterConfig:
    """The parts of a development cluster.

    Attributes:
        osds: The number of OSDs.
        mgr: Whether to start a manager too. librbd needs no manager.
        rbd_mirrors: The number of ``rbd-mirror`` daemons, which copy images from other clusters: see `MirrorPair`.
        cephx: Whether clients must show a key.
        objectstore: The place of the OSDs' data: ``memstore`` in memory, ``bluestore`` in a file under the cluster's
            directory.
        osd_bytes: The capacity of each OSD in bytes.
        pool: A pool to create and initialise for images; empty for no pool.
        delay: The mean delay of each client request to an OSD in seconds, as over a network.
        options: More options for the ``[global]`` section of the configuration file.
    """

    osds: int = 1
    mgr: bool = False
    rbd_mirrors: int = 0
    cephx: bool = False
    objectstore: Literal["memstore", "bluestore"] = "memstore"
    osd_bytes: int = 4 << 30
    pool: str = "rbd"
    delay: float = 0.0
    options: Mapping[str, str] = field(default_factory=dict)

    def require_programs(self) -> None:
        """Raise `MissingDaemonError` if a required program is not installed."""
        needed = ["ceph-mon", "ceph-osd", "ceph", "rbd", "ceph-authtool", "monmaptool"]
        needed += ["ceph-mgr"] * self.mgr + ["rbd-mirror"] * bool(self.rbd_mirrors)
        for program in needed:
            if shutil.which(program) is None:
                raise MissingDaemonError(f"{program} is not installed: apt-get install {PACKAGES[program]}")

    def write(self, directory: Path) -> str:
        """Write ``ceph.conf``, and return the monitor's address."""
        address = f"127.0.0.1:{_free_port()}"
        auth = "cephx" if self.cephx else "none"
        lines = {
            "fsid": str(uuid.uuid4()),
            "mon host": f"v2:{address}",
            "mon initial members": "a",
            "auth cluster required": auth,
            "auth service required": auth,
            "auth client required": auth,
            "log file": f"{directory}/log/$name.log",
            "admin socket": f"{directory}/run/$name.$pid.asok",
            "run dir": f"{directory}/run",
            "mon data": f"{directory}/mon.$id",
            "mgr data": f"{directory}/mgr.$id",
            "osd data": f"{directory}/osd.$id",
            "osd objectstore": self.objectstore,
            "memstore device bytes": str(self.osd_bytes),
            "bluestore block size": str(self.osd_bytes),
            "osd fast shutdown": "false",  # a memory-backed OSD saves its data only in a slow shutdown
            "ms bind ipv6": "false",
            # One machine, one copy of the data, no waiting.
            "osd pool default size": "1",
            "osd pool default min size": "1",
            # No other OSD could take over, so a read lease lasts weeks, not seconds. An OSD that is paused for longer
            # than its lease sometimes never answers again (seen with 16.2).
            "osd pool default read lease ratio": "100000",
            "osd pool default pg num": "8",
            "osd pool default pg autoscale mode": "off",
            "osd crush chooseleaf type": "0",
            "mon allow pool size one": "true",
            "mon auth emergency allowed ciphers": "aes,aes256k",  # without this, 20.2 refuses clients of older releases
            "mon allow pool delete": "true",
            "mon osd crush smoke test": "false",
            "mon data avail crit": "1",
            "mon data avail warn": "2",
            "paxos propose interval": "0.005",
            "paxos min wait": "0.005",
        } | dict(self.options)
        client = {"keyring": f"{directory}/keyring", "admin socket": "", "log file": ""}
        text = ""
        daemon = {"public addr": "127.0.0.1", "cluster addr": "127.0.0.1"}  # or daemons listen on all interfaces
        osd = dict(daemon)
        if self.delay:  # Ceph draws each delay evenly between 0 and the maximum
            osd |= {
                "ms inject delay type": "client",
                "ms inject delay probability": "1",
                "ms inject delay max": str(2 * self.delay),
            }
        sections = {"global": lines, "osd": osd, "mgr": daemon, "client": client}
        for number in range(self.rbd_mirrors):
            sections[f"client.rbd-mirror.{number}"] = _MIRROR | {
                "log file": f"{directory}/log/rbd-mirror.{number}.log",
                "admin socket": lines["admin socket"],
            }
        for section, options in sections.items():
            text += f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
        (directory / "ceph.conf").write_text(text)
        return address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
