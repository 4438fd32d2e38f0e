#!/usr/bin/env bash
# Run the tests: installs what is missing, starts its own clusters, cleans up behind itself.
# Arguments go to pytest. Without any, the slow tests are left out; all of them: tests/run.sh -m ''
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/setup.sh test example
[ $# -gt 0 ] || set -- -m 'not slow'
exec python -m pytest "$@"
