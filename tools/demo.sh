#!/usr/bin/env bash
# Converts the bundled model into three artifacts, runs each in its engine, and shows the report.
#
# usage: tools/demo.sh [more arguments of `trefoil convert`]
set -euo pipefail
cd "$(dirname "$0")/.."
export ORT_DISABLE_TELEMETRY=1
tools/setup.sh
cargo build --release --features llama-cpp
VIRTUAL_ENV="$PWD/.venv" target/release/trefoil convert recipes/g2p-t5.yaml "$@"
