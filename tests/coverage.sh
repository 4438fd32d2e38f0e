#!/usr/bin/env bash
# Report which lines of the package the tests run. What child processes run does not count. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/setup.sh test example coverage
[ $# -gt 0 ] || set -- -m 'not slow' -k 'asyncio or trio or not anyio'
python -m coverage run -m pytest "$@"
python -m coverage report --skip-covered
