"""The backup program, with the ``rbd`` tool as witness."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import new_name

from aiorbd.testing import DevCluster

PROGRAM = Path(__file__).parents[2] / "examples/backup.py"
MIB = 1 << 20


class Backup:
    """The program, one directory, and the tool."""

    def __init__(self, cluster: DevCluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable,
            str(PROGRAM),
            "--conf",
            self.cluster.conffile,
            "--directory",
            str(self.directory),
            *arguments,
        ]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rbd(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        return self.cluster.run_blocking("rbd", *arguments, stdin=stdin)

    def write(self, image: str, data: bytes, offset: int) -> None:
        """Write with the tool: a diff of one range."""
        size = int(self.rbd("info", image, "--format", "json").split(b'"size":')[1].split(b",")[0])
        diff = b"rbd diff v1\ns" + size.to_bytes(8, "little") + b"w" + offset.to_bytes(8, "little")
        self.rbd("import-diff", "--no-progress", "-", image, stdin=diff + len(data).to_bytes(8, "little") + data + b"e")

    def digest(self, image: str) -> str:
        return hashlib.sha256(self.rbd("export", "--no-progress", image, "-")).hexdigest()

    def files(self, image: str) -> list[Path]:
        return sorted(self.directory.joinpath("rbd", "default namespace", image).iterdir())

    def points(self, image: str) -> list[str]:
        shown = self("list").partition(f"{image}: ")[2]
        return re.findall(r"^  (backup-\S+): ", shown, re.MULTILINE)


@pytest.fixture
def backup(aiorbd_cluster: DevCluster, tmp_path: Path) -> Backup:
    return Backup(aiorbd_cluster, tmp_path / "backups")


@pytest.fixture
def image(backup: Backup) -> str:
    name = new_name()
    backup.rbd("import", "--no-progress", "-", name, stdin=os.urandom(3 * MIB) + bytes(29 * MIB))
    return name


def history(backup: Backup, image: str) -> dict[str, str]:
    """Make four points. Return the digest of the image at each."""
    found = {}
    for number in range(4):
        if number:
            backup.write(image, os.urandom(MIB), number * 5 * MIB)
        if number == 2:
            backup.rbd("resize", "--no-progress", "--allow-shrink", "--size", "30M", image)
        backup("backup", image)
        found[backup.points(image)[-1]] = backup.digest(image)
    return found


def test_every_point_can_be_restored_by_the_program_and_by_the_tool(backup: Backup, image: str) -> None:
    expected = history(backup, image)
    assert list(expected) == backup.points(image)
    full, *incremental = [path.stat().st_size for path in backup.files(image)]
    assert full > 3 * MIB
    assert all(MIB <= size < 4 * MIB + 200 for size in incremental)  # one object of 32 MiB changed
    snapshots = backup.rbd("snap", "ls", image).decode()
    assert snapshots.count("backup-") == 1  # of the newest point
    by_tool = new_name()
    backup.rbd("create", by_tool, "--size", "1M")
    for path in backup.files(image):
        backup.rbd("import-diff", "--no-progress", str(path), by_tool)
    for point, digest in expected.items():
        target = new_name()
        backup("restore", image, target, "--point", point)
        assert backup.digest(target) == digest
        assert backup.digest(f"{by_tool}@{point}") == digest
    newest = new_name()
    backup("restore", image, newest)
    assert backup.digest(newest) == list(expected.values())[-1]
    assert "4 points can be restored" in backup("verify")


@pytest.mark.slow
def test_restore_onto_an_image_keeps_its_snapshots(backup: Backup, image: str) -> None:
    expected = history(backup, image)
    backup.rbd("snap", "create", "--no-progress", f"{image}@mine")
    mine = backup.digest(f"{image}@mine")
    backup.write(image, b"damage" * 1000, 0)
    point = list(expected)[1]
    assert "failed" in backup("restore", image, image, "--point", point, code=1)  # the image exists
    backup("restore", image, image, "--point", point, "--onto")
    assert backup.digest(image) == expected[point]
    assert backup.digest(f"{image}@mine") == mine


def test_prune_merges_the_oldest_points(backup: Backup, image: str) -> None:
    expected = history(backup, image)
    assert "2 points merged, 2 left" in backup("prune", "--keep", "2")
    assert backup.points(image) == list(expected)[2:]
    assert "2 points can be restored" in backup("verify")
    for point in backup.points(image):
        target = new_name()
        backup("restore", image, target, "--point", point)
        assert backup.digest(target) == expected[point]
    assert "0 points merged, 2 left" in backup("prune", "--keep", "2")
    assert "incremental" in backup("backup", image)


def test_damaged_files_are_found(backup: Backup, image: str) -> None:
    history(backup, image)
    first, second, *_ = backup.files(image)
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    assert "another checksum" in backup("verify", code=3)
    assert "damaged" in backup("restore", image, new_name(), code=3)
    assert "damaged" in backup("prune", "--keep", "1", code=3)
    first.unlink()
    assert "is missing" in backup("verify", code=3)
    second.write_bytes(b"")
    for command, code in (("verify", 3), ("list", 0)):
        assert "damaged" in backup(command, code=code)
    assert "damaged" in backup("verify", "never-backed-up", code=3)


@pytest.mark.slow
def test_damage_does_not_stop_the_restore_of_other_points(backup: Backup, image: str) -> None:
    expected = history(backup, image)
    backup.files(image)[-1].write_bytes(b"")
    point, target = list(expected)[1], new_name()
    backup("restore", image, target, "--point", point)
    assert backup.digest(target) == expected[point]
    assert "full" in backup("backup", image)  # a new chain
    assert all(path.stat().st_mode & 0o077 == 0 for path in backup.files(image))


@pytest.mark.slow
def test_pools_and_odd_names_keep_apart(backup: Backup) -> None:
    pool, names = new_name("pool"), ["..", ".", "vm[x]", "ü"]
    backup.cluster.run_blocking("ceph", "osd", "pool", "create", pool)
    backup.rbd("pool", "init", pool)
    (backup.directory.parent / ".precious").write_text("kept")
    made = []
    for number, name in enumerate(names):
        for where in ("rbd", pool):
            backup.rbd("import", "--no-progress", "-", f"{where}/{name}", stdin=bytes([number + 1]) * MIB)
        made.append(name)
    for where in ("rbd", pool):
        assert backup("--pool", where, "backup", *made).count("full: ") == len(made)
        assert "1 point can be restored" in backup("--pool", where, "verify")
    assert (backup.directory.parent / ".precious").read_text() == "kept"
    assert (backup.directory / ".lock").exists()


@pytest.mark.slow
def test_snapshots_of_others_are_kept(backup: Backup, image: str) -> None:
    for name in ("backup-before-upgrade", "backup-20261129", "mine"):
        backup.rbd("snap", "create", "--no-progress", f"{image}@{name}")
    assert "full" in backup("backup", image)
    backup("backup", image)
    other = Backup(backup.cluster, backup.directory.with_name("offsite"))  # of the same image
    assert "full: " in other("backup", image)
    assert "incremental: " in other("backup", image)
    assert "incremental: " in backup("backup", image)
    for name in ("backup-before-upgrade", "backup-20261129", "mine"):
        assert f" {name} ".encode() in backup.rbd("snap", "ls", image)


@pytest.mark.slow
def test_new_full_point_after_the_snapshot_is_gone(backup: Backup, image: str) -> None:
    history(backup, image)
    backup.rbd("snap", "purge", "--no-progress", image)
    backup.rbd("resize", "--no-progress", "--allow-shrink", "--size", "1M", image)
    assert "full" in backup("backup", image)
    target = new_name()
    backup("restore", image, target)
    assert backup.digest(target) == backup.digest(image)
    assert "5 points can be restored" in backup("verify")
    by_tool = new_name()
    backup.rbd("create", by_tool, "--size", "1M")
    backup.rbd("import-diff", "--no-progress", str(backup.files(image)[-1]), by_tool)  # from the newest full one on
    assert backup.digest(by_tool) == backup.digest(image)


@pytest.mark.slow
def test_files_of_a_killed_prune_are_removed(backup: Backup, image: str) -> None:
    expected = history(backup, image)
    second = backup.files(image)[1]
    data = second.read_bytes()
    backup("prune", "--keep", "3")
    second.write_bytes(data)  # the prune was killed before it removed the file
    assert "3 points can be restored" in backup("verify")
    backup("prune", "--keep", "3")
    assert len(backup.files(image)) == 3
    target = new_name()
    backup("restore", image, target, "--point", list(expected)[1])
    assert backup.digest(target) == list(expected.values())[1]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM])
def test_killed_backup_continues(backup: Backup, image: str, number: Any) -> None:
    history(backup, image)
    ends = set()
    # None: as soon as a file is written. Other clients wait for a killed one up to half a minute: fewer rounds.
    for delay in (0.25, None) if number == signal.SIGKILL else (0.2, 0.25, 0.3, 0.35, None, None, None):
        backup.write(image, os.urandom(16 * MIB), 0)
        with subprocess.Popen(backup.command("backup", image), stdout=subprocess.DEVNULL) as program:
            if delay is not None:
                time.sleep(delay)
            while delay is None and not any(path.name.startswith(".") for path in backup.files(image)):
                assert program.poll() is None
            program.send_signal(number)
            ends.add(program.wait(30))
    assert ends <= {0, 130, -number}
    assert ends >= {-number if number == signal.SIGKILL else 130}
    backup("backup", image)
    expected = backup.digest(f"{image}@{backup.points(image)[-1]}")
    assert "can be restored" in backup("verify")
    target = new_name()
    backup("restore", image, target)
    assert backup.digest(target) == expected
    backup("backup", image)
    assert not [path for path in backup.files(image) if path.name.startswith(".")]
    assert backup.rbd("snap", "ls", image).decode().count("backup-") == 1
    backup("restore", image, target, "--onto")
    assert backup.digest(target) == backup.digest(image)


def test_many_images_and_one_that_fails(backup: Backup) -> None:
    names = [new_name("many-") for _ in range(6)]
    for name in names:
        backup.rbd("import", "--no-progress", "-", name, stdin=os.urandom(MIB))
    said = backup("--jobs", "2", "backup", *names, "missing", code=1)
    assert said.count("full: ") == 6
    assert "missing: failed: " in said
    assert all(len(backup.files(name)) == 1 for name in names)
    assert "at least 1" in backup("prune", "--keep", "0", code=2)


def test_second_program_in_the_same_directory_is_refused(backup: Backup, image: str) -> None:
    backup("backup", image)
    with subprocess.Popen(["flock", str(backup.directory / ".lock"), "sleep", "30"]) as other:
        time.sleep(0.5)
        assert "another backup works in" in backup("list", code=1)
        other.terminate()


def test_missing_file_makes_the_next_point_a_full_one(backup: Backup, image: str) -> None:
    for _ in range(2):
        backup("backup", image)
    backup.files(image)[0].unlink()
    assert ": full: " in backup("backup", image).replace("; full: ", ": full: ")
    backup("restore", image, restored := new_name())
    assert backup.digest(restored) == backup.digest(image)
    assert "whose file is missing or damaged" in backup("prune", "--keep", "1", image, code=3)
    assert "no backup in" in backup("prune", "--keep", "1", "none", code=3)


def test_image_that_is_named_twice_is_backed_up_once(backup: Backup, image: str) -> None:
    backup("backup", image, image)
    assert len(backup.files(image)) == 1
    backup("verify", image, image)


def test_half_restored_image_is_not_backed_up(backup: Backup, image: str) -> None:
    backup.rbd("image-meta", "set", image, "backup.restoring", "point")
    assert "half restored" in backup("backup", image, code=3)
