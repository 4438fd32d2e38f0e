#!/bin/sh
# Fetch an older source of a package, when the mirror has lost the one that its index names: older_source.sh PACKAGE.
# Whose it is says the signature of its description; what belongs to it, the description.
set -eu
package=$1
apt-cache showsrc --only-source "$package" >index
directory=$(sed -n 's/^Directory: //p' index | head -n 1)
newest=$(sed -n 's/^Version: //p' index | sort -V | tail -n 1)
mirror=$(apt-get indextargets --format '$(SITE)' 'Identifier: Sources' | head -n 1)
patch=${newest%%-*}
patch=${patch##*.}
while patch=$((patch - 1)) && [ "$patch" -ge 0 ]; do
    for revision in 3 2 1; do
        version=${newest%%-*}
        description=${package}_${version%.*}.$patch-$revision.dsc
        /usr/lib/apt/apt-helper download-file "$mirror/$directory/$description" "$description" 2>/dev/null || continue
        gpgv --keyring /usr/share/keyrings/debian-keyring.gpg --keyring /usr/share/keyrings/debian-maintainers.gpg "$description"
        sed -n '/^Checksums-Sha256:/,/^[^ ]/s/^ \([0-9a-f]*\) [0-9]* \(.*\.orig\.tar\.xz\)$/\1  \2/p' "$description" >sums
        /usr/lib/apt/apt-helper download-file "$mirror/$directory/$(cut -d ' ' -f 3 sums)" "$(cut -d ' ' -f 3 sums)"
        sha256sum --check sums
        exit 0
    done
done
echo "the mirror has no source of $package" >&2
exit 1
