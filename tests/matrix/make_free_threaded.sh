#!/usr/bin/env bash
# Build the CPython of a root file system once more, without the GIL: make_free_threaded.sh ROOT, from the distribution's own
# source. It gets the name python3.NNt. One that is there already is left as it is. Takes about 5 minutes.
set -euo pipefail
root=$1
here=$(cd "$(dirname "$0")" && pwd)
version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if chroot "$root" "python${version}t" -c 'import ssl' 2>/dev/null; then exit 0; fi

echo "Building Python ${version}t in $root" >&2
unshare --mount bash -euo pipefail -c '
    root=$0 version=$1 older=$2
    for directory in proc sys dev; do mount --rbind /$directory "$root/$directory"; done
    sed -n "s/^deb /deb-src /p" "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/source.list"
    chroot "$root" apt-get update -q
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -q --no-install-recommends \
        make pkgconf xz-utils libssl-dev zlib1g-dev libffi-dev gpgv debian-keyring
    cp "$older" "$root/tmp/older_source.sh"
    rm -rf "$root/usr/src/python" && mkdir -p "$root/usr/src/python"
    chroot "$root" sh -euc "
        cd /usr/src/python
        apt-get source --download-only python$version || sh /tmp/older_source.sh python$version
        tar -x --strip-components=1 -f python$version*.orig.tar.xz
        ./configure -q --disable-gil --prefix=/opt/python${version}t --with-ensurepip=install
        make -s -j$(nproc)
        make -s altinstall
        ln -sf /opt/python${version}t/bin/python${version}t /usr/local/bin/python${version}t
        rm -rf /usr/src/python
    "
' "$root" "$version" "$here/older_source.sh" >"$root.python.log" 2>&1 || {
    tail -20 "$root.python.log" >&2
    exit 1
}
