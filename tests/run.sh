#!/usr/bin/env bash
# Run the tests: installs what is missing, starts its own clusters, cleans up behind itself.
# Arguments go to pytest. Without any, the slow tests are left out, and the others run in several processes, each with
# clusters of its own; all of them, one after the other, as those need it that measure much: tests/run.sh -m ''
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/setup.sh test example
[ $# -gt 0 ] || set -- -m 'not slow' --numprocesses auto --maxprocesses 4 --dist worksteal
exec python tests/guarded.py "$@"
