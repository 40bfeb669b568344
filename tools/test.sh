#!/usr/bin/env bash
# Formatting, lints, the book of docs/, and every test, those that need llama.cpp, transformers, Optimum, transformers.js,
# OpenVINO and the HTP simulator included. Left out is what needs Rockchip's toolkit, of 5.6 GB:
#   TREFOIL_RKNN_PYTHON=.venv-rknn/bin/python cargo test --release --test it rknn -- --include-ignored
set -euo pipefail
cd "$(dirname "$0")/.."
export ORT_DISABLE_TELEMETRY=1
tools/setup.sh
# Downloads while the compiler works.
tools/setup.sh --all &
setup=$!
trap 'kill "$setup" 2>/dev/null || true' EXIT
export VIRTUAL_ENV="$PWD/.venv" TREFOIL_OPENVINO_PYTHON="$PWD/.venv-openvino/bin/python"
cargo fmt --all --check
# In the release profile too, so that llama.cpp is compiled once.
cargo clippy --release --workspace --all-targets --features llama-cpp -- -D warnings
cargo test --workspace --release --features llama-cpp --no-run
wait "$setup"
tools/book.sh
cargo test --workspace --release --features llama-cpp -- --include-ignored --skip the_rknn_simulator
