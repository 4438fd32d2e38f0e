#!/usr/bin/env bash
# Measure: installs what is missing and starts a cluster of its own. Arguments go to run.py.
# All Python clients run under the distribution's interpreter, which is the only one that has Ceph's `rbd` module.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=/usr/bin/python3 AIORBD_VENV=bench source .ci/setup.sh bench
exec python tests/bench/run.py "$@"
