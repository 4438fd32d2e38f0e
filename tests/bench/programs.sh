#!/usr/bin/env bash
# Measure the programs in examples/ beside Ceph's and QEMU's: installs what is missing and starts a cluster of its own.
# Arguments go to programs.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
source .ci/setup.sh example
dpkg-query -W -f '${Status}' qemu-block-extra 2>/dev/null | grep -q 'ok installed' || {
    echo "Installing: qemu-block-extra"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends qemu-block-extra >/dev/null
}
exec python tests/bench/programs.py "$@"
