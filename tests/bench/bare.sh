#!/usr/bin/env bash
# Measure Python's part of a read and a write: installs what is missing and starts a cluster of its own.
# Arguments go to bare.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=/usr/bin/python3 AIORBD_VENV=bench source .ci/setup.sh bench
exec python tests/bench/bare.py "$@"
