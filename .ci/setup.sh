# Sourced by the commands of this repository: installs what is missing and activates a virtual
# environment with the library in it. Usage: source .ci/setup.sh GROUP... (dependency groups of
# pyproject.toml). PYTHON chooses the interpreter, each version gets an environment of its own; AIORBD_VENV names another one.
# With --packages alone: only what Debian has.

aiorbd_setup() {
    local root python venv package missing=()
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

    # What Debian calls what is needed: the daemons for the cluster, the tools, and a compiler.
    # python3-rbd and fio are the peers that the benchmark measures.
    for package in ceph-mon ceph-osd ceph-mgr rbd-mirror ceph-common librbd-dev librados-dev python3-rbd fio e2fsprogs cryptsetup-bin libnbd-bin qemu-utils gcc libc6-dev; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    # An interpreter that can build an extension in an environment of its own.
    python=${PYTHON:-python3}
    if ! "$python" -c '
import ensurepip, os, sys, sysconfig
sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null; then
        [ "${PYTHON:-/usr/bin/python3}" = /usr/bin/python3 ] || { echo "$PYTHON is no Python 3.11 or newer with its headers" >&2; return 1; }
        python=/usr/bin/python3
        missing+=(python3 python3-venv python3-dev)
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        local sudo=()
        [ "$(id -u)" -eq 0 ] || sudo=(sudo)
        echo "Installing: ${missing[*]}"
        "${sudo[@]}" apt-get update -q >/dev/null
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
    fi

    [ "${1:-}" != --packages ] || return 0
    venv=$root/.venv-${AIORBD_VENV:-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2] + sys.abiflags)')}
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
    # shellcheck disable=SC1091
    source "$venv/bin/activate"
    # Groups of dependencies need a pip that knows them.
    python -c 'import pip, sys; sys.exit(int(pip.__version__.split(".")[0]) < 26)' || pip install -qq --upgrade pip
    local groups=()
    for package in "$@"; do groups+=(--group "$root/pyproject.toml:$package"); done
    pip install -qq --editable "$root" "${groups[@]}"
}

aiorbd_setup "$@"
