#!/usr/bin/env bash
# Builds the program for release: build/release/trefoil-VERSION-TARGET.tar.gz and its SHA-256.
#
# usage: tools/release.sh
#
# Everything is linked in but the C library: a program that is static as a whole cannot load onnxruntime, which it does while it
# runs. So this one runs where glibc is at least what the last line says, whatever else is installed; for older systems it is
# built on one. The same program gives the same archive.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
target=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
name=trefoil-$version-$target
# Of the last commit, unless the builder has another clock for all of its packages.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

out=${CARGO_TARGET_DIR:-$PWD/target}/release
program=$out/trefoil

# The linker takes the first folder that has a library, and here none is shared. What unwinds is called libgcc_eh when it is not.
mkdir -p "$out/static"
ln -sf "$(c++ -print-file-name=libstdc++.a)" "$out/static/libstdc++.a"
ln -sf "$(cc -print-file-name=libgcc_eh.a)" "$out/static/libgcc_s.a"
cargo rustc --release --locked --features llama-cpp --bin trefoil -- -L "native=$out/static" -C strip=symbols

needed=$(objdump -p "$program" | sed -n 's/^ *NEEDED *//p')
# Parts of glibc.
foreign=$(grep -vE '^(libc|libm|libpthread|libdl|ld-linux.*)\.so' <<<"$needed" || true)
if [ -n "$foreign" ]; then
    echo "release: $program: expected no library but glibc, found" $foreign >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install -d -m 755 "$work/$name"
install -m 755 "$program" "$work/$name/trefoil"
install -m 644 LICENSE README.md SECURITY.md "$work/$name/"
# What templates of CI services run.
install -d -m 755 "$work/$name/ci/gitlab"
install -m 755 ci/build.sh ci/annotations.py ci/comment.py ci/reports.py "$work/$name/ci/"
install -m 644 ci/told.py "$work/$name/ci/"
install -m 755 ci/gitlab/note.py "$work/$name/ci/gitlab/"
install -d -m 755 "$work/$name/completions" "$work/$name/man/man1"
for shell in bash elvish fish powershell zsh; do
    "$program" completions "$shell" >"$work/$name/completions/trefoil.$shell"
done
"$program" man "$work/$name/man/man1" >&2
# As a folder of its own has no bits but those of the builder's mask.
chmod -R u=rwX,go=rX "$work/$name"
mkdir -p build/release
archive=build/release/$name.tar.gz
tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C "$work" -cf - "$name" | gzip -9n >"$work/archive"
mv "$work/archive" "$archive"
(cd build/release && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
floor=$(objdump -T "$program" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1)
echo "release: $archive, $(du -k "$archive" | cut -f1) KiB, needs glibc ${floor#GLIBC_}" >&2
