#!/usr/bin/env bash
# Make the root file system of a Debian release, with its Ceph, its Python and a compiler: make_root.sh RELEASE DIRECTORY.
# One that is there already is left as it is. Takes root, about 80 s and 1.7 GB.
set -euo pipefail
release=$1 root=$2
here=$(cd "$(dirname "$0")" && pwd)
# Another recipe makes another root. One that is there is not brought up to date: remove it for that.
recipe=$(sha256sum "$here/make_root.sh" | cut -c1-16)
if [ "$(cat "$root/.recipe" 2>/dev/null)" = "$recipe" ]; then exit 0; fi

packages=(
    ca-certificates python3 python3-dev python3-venv gcc libc6-dev
    ceph-mon ceph-osd ceph-mgr rbd-mirror ceph-common librbd-dev librados-dev python3-rbd e2fsprogs cryptsetup-bin qemu-utils procps
)
# The mirror that this host uses for its own release.
mirror=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' 'Component: main' | grep -m1 '/debian/*$') || {
    echo "no mirror of Debian is among this host's sources of packages" >&2
    exit 1
}
command -v debootstrap >/dev/null || {
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap >/dev/null
}

echo "Making the root of Debian $release in $root" >&2
rm -rf "$root.new"
mkdir -p "$(dirname "$root")"
# A debootstrap that is older than the release makes it as it makes the unstable one.
script=
[ -e "/usr/share/debootstrap/scripts/$release" ] || script=sid
# In a mount namespace of its own: what it mounts, and leaves mounted when it is killed, is gone with it.
unshare --mount debootstrap --variant=minbase "$release" "$root.new" "$mirror" $script >"$root.log" 2>&1 || {
    tail -20 "$root.log" >&2
    exit 1
}

# Certificates that were added to this host's, so that its way to the package index works there too.
mkdir -p "$root.new/usr/local/share/ca-certificates"
cp -r /usr/local/share/ca-certificates/. "$root.new/usr/local/share/ca-certificates"
unshare --mount bash -euo pipefail -c '
    for directory in proc sys dev; do mount --rbind /$directory "$0/$directory"; done
    export DEBIAN_FRONTEND=noninteractive
    # A mirror may stand still for longer than a moving release says that its lists are good for.
    echo "Acquire::Check-Valid-Until \"false\";" >"$0/etc/apt/apt.conf.d/90mirror"
    chroot "$0" apt-get update -q
    # Daemons are started by the tests, never by the packages.
    printf "#!/bin/sh\nexit 101\n" >"$0/usr/sbin/policy-rc.d"
    chmod +x "$0/usr/sbin/policy-rc.d"
    chroot "$0" apt-get install -y -q --no-install-recommends "$@"
    chroot "$0" apt-get clean
    chroot "$0" update-ca-certificates
' "$root.new" "${packages[@]}" >>"$root.log" 2>&1 || { tail -20 "$root.log" >&2; exit 1; }
echo "$recipe" >"$root.new/.recipe"
rm -rf "$root"
mv "$root.new" "$root"
