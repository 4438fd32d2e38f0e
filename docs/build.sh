#!/usr/bin/env bash
# Build the site into docs/_build/html. Whatever Sphinx warns of is an error: a link that leads nowhere, too.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/setup.sh docs
rm -rf docs/_build
sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
echo "docs/_build/html/index.html"
