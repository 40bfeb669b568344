#!/usr/bin/env bash
# Installs a released trefoil into DIR, and prints the folder of the program.
#
# usage: ci/install.sh RELEASES VERSION DIR [SHA256]
#
# RELEASES/vVERSION/ holds what tools/release.sh made. The archive must have the digest SHA256, else that of the file beside it,
# which proves only that the archive came whole: whoever can change one can change the other.
set -euo pipefail
releases=$1 version=$2 dir=$3 expected=${4:-}
system=$(uname -s | tr '[:upper:]' '[:lower:]')
case $system in
linux) target=$(uname -m)-unknown-linux-gnu ;;
darwin) target=$(uname -m | sed s/arm64/aarch64/)-apple-darwin ;;
*)
    echo "install: $system: expected linux or darwin" >&2
    exit 2
    ;;
esac
name=trefoil-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# bring FILE      from the release into the folder of work
bring() {
    if ! curl --fail --silent --show-error --location --retry 3 --output "$work/$1" "$releases/v$version/$1"; then
        echo "install: $releases/v$version/$1 cannot be fetched: is there a release $version for this machine?" >&2
        exit 2
    fi
}
bring "$name.tar.gz"
if [ -z "$expected" ]; then
    bring "$name.tar.gz.sha256"
    read -r expected _ <"$work/$name.tar.gz.sha256"
fi
# macOS has another program for it.
sum=(sha256sum)
command -v sha256sum >/dev/null || sum=(shasum -a 256)
read -r found _ < <("${sum[@]}" "$work/$name.tar.gz")
if [ "$found" != "$expected" ]; then
    echo "install: $name.tar.gz: expected sha256 $expected, found $found" >&2
    exit 2
fi
mkdir -p "$dir"
tar -xzf "$work/$name.tar.gz" -C "$dir"
echo "$dir/$name"
