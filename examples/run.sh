#!/usr/bin/env bash
# The main job: an asynchronous program writes a disk image into a Ceph cluster and reads it back,
# under asyncio and under trio. Installs what is missing; starts a cluster of its own for the while.
# Arguments go to examples/quickstart.py.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/setup.sh example
exec python examples/quickstart.py "$@"
