#!/usr/bin/env bash
# Run the tests against one wheel in every cell: releases of Ceph, of Python, clients of one release against the daemons of
# another. Needs root, for the other releases' root file systems. Those, and an interpreter without the GIL, are made once and
# kept in ~/.cache/aiorbd. The table comes last.
#
#     tests/matrix.sh [--wheels DIRECTORY] [--results DIRECTORY] [--jobs N] [CELL...] [-- PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aiorbd

# Name, whose client, which Python, whose daemons. "host" is this machine's own system. Those that take longest come first.
CELLS='
20.2-py3.14   forky   python3      forky
18.2-py3.13   trixie  python3      trixie
16.2-py3.13   host    python3.13   host
16.2-py3.12   host    python3.12   host
20.2-on-16.2  forky   python3      host
18.2-py3.13t  trixie  python3.13t  trixie
20.2-py3.14t  forky   python3.14t  forky
16.2-py3.11   host    python3.11   host
16.2-on-20.2  host    python3.11   forky
'

main() {
    local wheels='' results='' jobs=3 wanted=() arguments=(-m 'not slow')
    while [ $# -gt 0 ]; do
        case $1 in
        --wheels) wheels=$2; shift ;;
        --results) results=$2; shift ;;
        --jobs) jobs=$2; shift ;;
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
    set --
    source .ci/setup.sh # the host's own packages
    deactivate

    work=$(mktemp -d -t aiorbd-matrix.XXXXXX)
    trap 'end_cells; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$work/tree" "$work/results"
    cp "$wheels"/*.whl "$wheels"/*.tar.gz "$work"
    # All but the package itself: that comes from the wheel.
    tar -c --exclude=__pycache__ --exclude=tests/bench/results --exclude=docs/_build \
        .ci .gitignore CHANGELOG.md LICENSE README.md docs examples ffi pyproject.toml tests | tar -x -C "$work/tree"

    local name client python daemons
    while read -r name client python daemons; do
        [ -n "$name" ] || continue
        [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || continue
        prepare_cell "$name" "$client" "$python" "$daemons" || continue
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
        echo "=== $name begins"
        run_cell "$name" "$client" "$found" "$daemons" "${arguments[@]}" &
    done <<<"$CELLS"
    wait
    if [ -n "$results" ]; then
        mkdir -p "$results"
        cp "$work"/results/* "$results"
    fi
    printf '\n'
    /usr/bin/python3 tests/matrix/table.py "$work/results"
}

# Make what a cell needs and does not find; `found` is its Python. A cell that cannot be made is said in the table.
prepare_cell() {
    local name=$1 client=$2 python=$3 daemons=$4 system missing=
    found=$python
    for system in "$client" "$daemons"; do
        [ "$system" = host ] || tests/matrix/make_root.sh "$system" "$cache/roots/$system"
    done
    case $client-$python in
    host-*) found=$(find_python "$python") && [ -n "$found" ] || missing="no such Python here" ;;
    *t) tests/matrix/make_free_threaded.sh "$cache/roots/$client" || missing="the mirror has no source of it" ;;
    esac
    [ -n "$missing" ] || return 0
    echo "=== $name NOT RUN: $missing"
    echo "{\"not_run\": \"$missing\"}" >"$work/results/$name.json"
    return 1
}

# An interpreter of this host, of the system's or pyenv's: one that has what it takes to install and compile.
find_python() {
    local candidate
    for candidate in $(command -v "$1") "$HOME/.pyenv/versions/${1#python}".*/bin/python; do
        if "$candidate" -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# In a process group and a mount namespace of its own: whatever happens, they end with the cell.
run_cell() {
    local name=$1 client=$2 python=$3 daemons=$4 log=$work/results/$1.log code=0
    shift 4
    setsid unshare --mount tests/matrix/enter.sh "$work" "$cache/roots" "$client" "$daemons" "$name" "$python" "$@" \
        </dev/null >"$log" 2>&1 &
    echo $! >"$work/$name.pid"
    wait $! || code=$?
    rm "$work/$name.pid"
    echo "=== $name ends with $code: $(tail -n 1 "$log")"
    [ "$code" -eq 0 ] || sed -n '/^=\+ \(FAILURES\|ERRORS\)/,$p' "$log"
}

end_cells() {
    local file
    for file in "$work"/*.pid; do
        [ ! -e "$file" ] || kill -TERM -- "-$(cat "$file")" 2>/dev/null || true
    done
    wait
}

main "$@"
exit # bash reads a script as it goes: what is written below while it runs is not for it
