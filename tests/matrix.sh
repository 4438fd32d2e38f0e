#!/usr/bin/env bash
# Run the tests against one wheel in every cell: releases of Ceph, of Python, clients of one release against the daemons of
# another. Needs root, for the other releases' root file systems. Those, and an interpreter without the GIL, are made once and
# kept in ~/.cache/aiorbd. The table comes last.
#
#     tests/matrix.sh [--wheels DIRECTORY] [--results DIRECTORY] [CELL...] [-- PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aiorbd

# Name, whose client, which Python, whose daemons. "host" is this machine's own system.
CELLS='
16.2-py3.11   host    python3.11   host
16.2-py3.12   host    python3.12   host
16.2-py3.13   host    python3.13   host
18.2-py3.13   trixie  python3      trixie
18.2-py3.13t  trixie  python3.13t  trixie
20.2-py3.14   forky   python3      forky
20.2-py3.14t  forky   python3.14t  forky
16.2-on-20.2  host    python3.11   forky
20.2-on-16.2  forky   python3      host
'

wheels= results= wanted=() arguments=(-m 'not slow')
while [ $# -gt 0 ]; do
    case $1 in
    --wheels) wheels=$2; shift ;;
    --results) results=$2; shift ;;
    --) shift; arguments=("$@"); break ;;
    *) wanted+=("$1") ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || { echo "tests/matrix.sh makes root file systems: run it as root" >&2; exit 1; }
if [ -z "$wheels" ]; then
    .ci/wheel >&2
    wheels=dist
fi
set -- # what is sourced gets the arguments otherwise
source .ci/setup.sh
deactivate

work=$(mktemp -d -t aiorbd-matrix.XXXXXX)
running=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$running" ] || kill -TERM -- "-$running" 2>/dev/null; exit 130' INT TERM HUP
mkdir "$work/tree" "$work/results"
cp "$wheels"/*.whl "$wheels"/*.tar.gz "$work"
# All but the package itself: that comes from the wheel.
tar -c --exclude=__pycache__ --exclude=tests/bench/results \
    .ci .gitignore CHANGELOG.md LICENSE README.md docs examples ffi pyproject.toml tests | tar -x -C "$work/tree"

# The interpreter of a cell on this host, of the system's or pyenv's: it must be able to run a compiled test.
find_python() {
    local candidate
    for candidate in $(command -v "$1") "$HOME/.pyenv/versions/${1#python}".*/bin/python; do
        if "$candidate" -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

while read -r name client python daemons; do
    [ -n "$name" ] || continue
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || continue
    for system in $client $daemons; do
        [ "$system" = host ] || tests/matrix/make_root.sh "$system" "$cache/roots/$system"
    done
    missing=
    case $client-$python in
    host-*) python=$(find_python "$python") && [ -n "$python" ] || missing="no such Python here" ;;
    *t) tests/matrix/make_free_threaded.sh "$cache/roots/$client" || missing="the mirror has no source of it" ;;
    esac
    printf '\n=== %s\n' "$name"
    if [ -n "$missing" ]; then
        echo "NOT RUN: $missing"
        echo "{\"not_run\": \"$missing\"}" >"$work/results/$name.json"
        continue
    fi
    # A process group and a mount namespace of its own: whatever happens, they end with the cell.
    setsid --wait unshare --mount tests/matrix/enter.sh "$work" "$cache/roots" "$client" "$daemons" \
        "$name" "$python" "${arguments[@]}" </dev/null &
    running=$!
    wait "$running" || echo "$name ended with $?"
    running=
done <<<"$CELLS"

if [ -n "$results" ]; then
    mkdir -p "$results"
    cp "$work"/results/* "$results"
fi
printf '\n'
/usr/bin/python3 tests/matrix/table.py "$work/results"
exit # bash reads a script as it goes: what is written below while it runs is not for it
