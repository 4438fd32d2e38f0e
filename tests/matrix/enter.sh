#!/usr/bin/env bash
# Lay out what a cell sees, in a mount namespace of its own, and run it: the client's system is the root, and programs called
# as the daemons are those of the other release. enter.sh WORK ROOTS CLIENT DAEMONS NAME PYTHON PYTEST-ARGUMENT...
set -euo pipefail
work=$1 roots=$2 client=$3 daemons=$4 name=$5
shift 4
mount --make-rprivate /

directory_of() { if [ "$1" = host ]; then echo /; else echo "$roots/$1"; fi; }

# /tmp has the cell and its clusters, at one path in every root.
share() {
    local directory
    for directory in proc sys dev tmp; do mount --rbind "/$directory" "$1/$directory"; done
}

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$daemons" != "$client" ]; then
    other=$work/$name-daemons
    mkdir "$other" "$other.bin"
    mount --bind "$(directory_of "$daemons")" "$other"
    share "$other"
    programs=(ceph-mon ceph-osd ceph-mgr monmaptool)
    # Keys are made by the older of the two, which is the host: it does not know the newer one's kind.
    [ "$client" = host ] || programs+=(ceph-authtool)
    for program in "${programs[@]}"; do
        printf '#!/bin/sh\nexec chroot %s /usr/bin/%s "$@"\n' "$other" "$program" >"$other.bin/$program"
        chmod +x "$other.bin/$program"
    done
    path=$other.bin:$path
fi
root=$(directory_of "$client")
[ "$root" = / ] || share "$root"

environment=(HOME="$HOME" PATH="$path" LANG=C.UTF-8 AIORBD_TESTS_PATIENCE=3)
# How this host's pip gets to its index; paths of the host mean nothing elsewhere.
while IFS= read -r variable; do environment+=("$variable"); done < <(env | grep -iE '^(pip_[a-z_]*|https?_proxy|no_proxy|all_proxy)=' | grep -ivE '^pip_(find_links|config_file|cache_dir)=')
exec chroot "$root" env -i "${environment[@]}" "$work/tree/tests/matrix/run_cell.sh" "$work" "$@"
