#!/usr/bin/env bash
# Run the tests against one wheel in every cell: releases of Ceph, of Python, clients of one release against the daemons of
# another. Needs root, for the other releases' root file systems. Those, and an interpreter without the GIL, are made once and
# kept in ~/.cache/aiorbd. The table comes last. Each cell takes 6 GB of memory, most of it for its OSD. A cell that cannot be
# made is a failure, too.
#
# The oldest and the newest Ceph run the whole suite on asyncio, tests/streams only with the oldest. The oldest also runs
# everything on trio, and on uvloop where the loop matters. Two cells run the slow tests, except those that must run alone:
# "16.2-py3.11-pairs" runs those that call much in separate processes, "16.2-py3.11-slow" the others, which often wait.
# The other cells run the tests that depend on the release of Ceph ("ceph": the contract, on one event loop) or on the Python
# ("python", also with eager tasks). With --complete all cells but these two run the whole suite.
#
#     tests/matrix.sh [--complete] [--wheels DIRECTORY] [--results DIRECTORY] [--jobs N] [CELL...] [-- PYTEST ARGUMENTS]
#     tests/matrix.sh --prepare [CELL...]    # only make what is kept
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aiorbd

# Name, whose client, which Python, whose daemons, which tests. "host" is this machine's own system. Those that take longest
# come first.
CELLS='
16.2-py3.11-slow   host    python3.11   host    slow
16.2-py3.11        host    python3.11   host    quick
16.2-py3.11-pairs  host    python3.11   host    pairs
20.2-py3.14        forky   python3      forky   newest
18.2-py3.13        trixie  python3      trixie  ceph
20.2-on-16.2       forky   python3      host    ceph
16.2-on-20.2       host    python3.11   forky   ceph
16.2-py3.13        host    python3.13   host    python
16.2-py3.12        host    python3.12   host    python
20.2-py3.14t       forky   python3.14t  forky   python
18.2-py3.13t       trixie  python3.13t  trixie  python
'


main() {
    local prepare='' complete='' wheels='' results='' jobs=2 wanted=() arguments=() broken=()
    while [ $# -gt 0 ]; do
        case $1 in
        --prepare) prepare=yes ;;
        --complete) complete=yes ;;
        --wheels) wheels=$(cd "$start" && realpath "$2"); shift ;;
        --results) results=$(cd "$start" && realpath -m "$2"); shift ;;
        --jobs) jobs=$(( $2 > 0 ? $2 : 1 )); shift ;;
        --) shift; arguments=("$@"); break ;;
        *)
            grep -q "^$1 " <<<"$CELLS" || { echo "no such cell or option: $1" >&2; exit 2; }
            wanted+=("$1")
            ;;
        esac
        shift
    done
    [ "$(id -u)" -eq 0 ] || { echo "tests/matrix.sh makes root file systems: run it as root" >&2; exit 1; }
    if [ -z "$wheels$prepare" ]; then
        .ci/wheel >&2
        wheels=dist
    fi
    source .ci/setup.sh --packages

    mkdir -p "$cache"
    if [ -n "$prepare" ]; then
        prepare_cells first
        prepare_cells rest
        exit $((${#broken[@]} > 0))
    fi
    work=$(mktemp -d /tmp/aiorbd-matrix.XXXXXX) # the roots share /tmp
    trap 'end_cells; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$work/tree" "$work/results"
    cp "$wheels"/*.whl "$wheels"/*.tar.gz "$work"
    # All but the package itself: that comes from the wheel.
    tar -c --exclude=__pycache__ --exclude=tests/bench/results --exclude=docs/_build \
        .ci .gitignore CHANGELOG.md CONTRIBUTING.md LICENSE README.md docs examples ffi pyproject.toml tests | tar -x -C "$work/tree"

    # The long cells of this host's own system run while the other systems are made.
    prepare_cells first
    begin_cells
    prepare_cells rest
    begin_cells
    wait
    for name in "${broken[@]}"; do echo '{"broken": "cannot be made"}' >"$work/results/$name.json"; done
    if [ -n "$results" ]; then
        mkdir -p "$results"
        cp "$work"/results/* "$results"
    fi
    printf '\n'
    /usr/bin/python3 tests/matrix/table.py "$work/results"
}

# Begin what `prepare_cells` has made, as many at a time as wanted.
begin_cells() {
    local cell name client found daemons tests chosen
    # What happens to a cell is written down over this: one that leaves no word is no green one.
    for cell in "${cells[@]}"; do echo '{"broken": "not begun"}' >"$work/results/${cell%% *}.json"; done
    for cell in "${cells[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
        read -r name client found daemons tests <<<"$cell"
        echo "=== $name begins"
        if [ ${#arguments[@]} -gt 0 ]; then chosen=("${arguments[@]}"); else choose "$tests"; fi
        run_cell "$name" "$client" "$found" "$daemons" "${chosen[@]}" &
    done
}

# Which tests, in pytest's words. The pairs of calls on one image depend on the release of Ceph.
choose() {
    case ${complete:+complete}$1 in
    *slow) chosen=(-m 'slow and not alone' --ignore tests/pairs --ignore tests/sweep) ;;
    *pairs) chosen=(-m slow tests/{pairs,sweep}) ;;
    complete*) chosen=(-m 'not slow or pairs') ;;
    newest) chosen=(-m 'not slow or pairs' -k 'not uvloop and not trio and not eager' --ignore tests/streams) ;;
    quick) chosen=(-m 'not slow' -k 'not uvloop or cancel or faults or native_asyncio or streams or extents or loops_in or writer') ;;
    ceph) chosen=(-m 'not slow' -k 'not uvloop and not trio and not eager' tests/{contract,static}) ;;
    python) chosen=(-m 'not slow' tests/{bridge,cancel,static} tests/contract/test_{extents,loops_in_threads,native_asyncio,streams,writer}.py) ;;
    esac
}

# Make what the wanted cells need: first those that use only this host's system, except the short ones, and then the rest.
# All of that is made before the first of the rest runs, because what is installed into a root would disturb what runs in it.
prepare_cells() {
    local name client python daemons tests found turn
    cells=()
    while read -r name client python daemons tests; do
        [ -n "$name" ] || continue
        [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || continue
        if [ "$client $daemons" = "host host" ] && [ "$tests" != python ]; then turn=first; else turn=rest; fi
        [ $turn = "$1" ] || continue
        if found=$(prepare_cell "$client" "$python" "$daemons" </dev/null); then
            cells+=("$name $client $found $daemons $tests")
        else
            echo "=== $name cannot be made"
            broken+=("$name")
        fi
    done <<<"$CELLS"
}

# Make what a cell needs and does not find, and print its Python.
prepare_cell() {
    local client=$1 python=$2 daemons=$3 system
    local make=(flock "$cache/lock") # another run may be making the same
    for system in "$client" "$daemons"; do
        [ "$system" = host ] || "${make[@]}" tests/matrix/make_root.sh "$system" "$cache/roots/$system" || return
    done
    case $client-$python in
    host-*) python=$(find_python "$python") || return ;;
    *t) "${make[@]}" tests/matrix/make_free_threaded.sh "$cache/roots/$client" || return ;;
    esac
    echo "$python"
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
    echo "no $1 here with its headers" >&2
    return 1
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
    echo "$code" >"$work/results/$name.exit"
    echo "=== $name ends with $code: $(tail -n 1 "$log")"
    [ "$code" -eq 0 ] || tail -n 400 "$log"
}

end_cells() {
    local file
    for file in "$work"/*.pid; do
        [ ! -e "$file" ] || kill -TERM -- "-$(cat "$file")" 2>/dev/null || true
    done
    wait
}

main "$@"; exit # on one line: bash reads a script as it goes, and this one runs long
