#!/usr/bin/env bash
# Report which lines of the package the tests run, without the child processes. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/setup.sh test example coverage
[ $# -gt 0 ] || set -- -m 'not slow' -k 'asyncio or trio or not anyio' --numprocesses auto --maxprocesses 4 --dist worksteal
exec python tests/guarded.py --cov --cov-report=term-missing:skip-covered "$@"
