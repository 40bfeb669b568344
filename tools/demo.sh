#!/usr/bin/env bash
# Converts the bundled model into four artifacts, runs each in its engine, and shows the report.
#
# usage: tools/demo.sh [more arguments of `trefoil convert`]
#
# transformers needs torch, of 3 GB, and so it is not run before `tools/setup.sh --all` has installed it.
set -euo pipefail
cd "$(dirname "$0")/.."
export ORT_DISABLE_TELEMETRY=1
tools/setup.sh
if [ ! -e "${CARGO_TARGET_DIR:-target}/release/trefoil" ]; then
    echo "demo: the first build downloads 70 MB of crates and compiles llama.cpp: some minutes" >&2
fi
cargo build --release --features llama-cpp
status=0
VIRTUAL_ENV="$PWD/.venv" "${CARGO_TARGET_DIR:-target}/release/trefoil" convert recipes/g2p-t5.yaml "$@" || status=$?
if [ ! -e .venv/installed-transformers.txt ]; then
    list=tools/requirements-transformers.txt
    echo "demo: to run transformers too: tools/setup.sh --all (torch alone is most of $(sed -n 's/^# download: //p' $list))" >&2
fi
exit "$status"
