#!/usr/bin/env bash
# Measure how costs grow: installs what is missing and starts a cluster of its own. Arguments go to scale.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=/usr/bin/python3 AIORBD_VENV=bench source .ci/setup.sh bench
exec python tests/bench/scale.py "$@"
