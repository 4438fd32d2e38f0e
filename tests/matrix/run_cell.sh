#!/usr/bin/env bash
# Run in a cell: install the wheel into an empty environment, and test it from an empty directory.
# run_cell.sh WORK NAME PYTHON PYTEST-ARGUMENT...
set -euo pipefail
work=$1 name=$2 python=$3
shift 3

cell=$work/$name
trap 'rm -rf "$cell"' EXIT
mkdir "$cell"
cp -r "$work/tree/." "$cell"
cd "$cell"
"$python" -m venv venv
source venv/bin/activate
python -c 'import pip, sys; sys.exit(int(pip.__version__.split(".")[0]) < 26)' || pip install -qq --upgrade pip
begin=$(date +%s%N)
case $python in
python3.13t)
    # What is published of cffi refuses this Python, whose way without the GIL was an experiment; its source works there.
    /usr/bin/python3 -m venv plain
    plain/bin/pip download -q --no-deps --no-binary cffi cffi
    mkdir cffi
    tar -x -f cffi-*.tar.gz -C cffi --strip-components=1
    sed -i 's/FREE_THREADED_BUILD and sys.version_info < (3, 14)/False/' cffi/setup.py
    pip install -q setuptools hatchling ./cffi
    pip install -q --no-build-isolation "$work"/*.tar.gz
    ;;
*t) pip install -q "$work"/*.tar.gz ;; # the stable ABI is not for Pythons without the GIL: each has a build of its own
*) PATH=$cell/venv/bin pip install -q --only-binary :all: "$work"/*.whl ;; # as users get it: without a compiler
esac
echo "installed in $(( ($(date +%s%N) - begin) / 1000000 )) ms"
pip install -q --group test --group example

release() { "$1" --version | sed 's/^ceph version \([0-9.]*\).*/\1/'; }
client=$(release rbd) daemons=$(release ceph-osd)
version=$(python -c 'import sys, sysconfig
print(sys.version.split()[0] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))')
echo "{\"client\": \"$client\", \"daemons\": \"$daemons\", \"python\": \"$version\"}" >"$work/results/$name.json"
# A cell is what its name says: a moving release of Debian moves on.
is=${client%.*}-py$(sed 's/\.[0-9]*\(t\?\)$/\1/' <<<"$version")
[ "$client" = "$daemons" ] || is=${client%.*}-on-${daemons%.*}
[[ $name =~ ^"$is"(-[a-z]+)?$ ]] || { echo "$name is $is: clients of $client, daemons of $daemons, Python $version" >&2; exit 1; }
# No cell may hold up the others for ever. In the foreground: it stays in the group of processes that ends with the cell.
# With faulthandler from the beginning to the end, a crash after the last test is explained, too.
timeout --foreground --signal INT --kill-after 60 4200 python -X faulthandler -m pytest --junitxml="$work/results/$name.xml" -p no:cacheprovider "$@"
