#!/bin/sh
# Compiles the C example against the engine as a static library, and runs it beside the Rust one on a GGUF of the bundled
# model: both print the same tokens.
set -eu
if [ $# -eq 0 ]; then
    echo "usage: tools/engine_c.sh MODEL.gguf START END ID..." >&2
    exit 2
fi
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo rustc --release -p trefoil-engine --lib --crate-type staticlib
cargo build --release -p trefoil-engine --example host
cc -std=c11 -Wall -Wextra -Werror -O2 -Ivalidate/engine/include validate/engine/examples/host.c \
    "$target/release/libtrefoil_engine.a" -lstdc++ -lm -lpthread -ldl -o "$work/host"
"$work/host" "$@" > "$work/c"
"$target/release/examples/host" "$@" > "$work/rust"
cat "$work/c"
cmp "$work/c" "$work/rust"
