"""The bridge's checksums."""

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def test_both_ways_to_compute_a_checksum_agree_with_the_standard(tmp_path: Path) -> None:
    program = tmp_path / "crc32c"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-fsanitize=address,undefined"]
    bridge = HERE.parents[1] / "ffi/bridge"
    subprocess.run([*command, "-I", bridge, "-o", program, HERE / "check_crc32c.c"], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "compared 639\n")
