#!/usr/bin/env bash
# Installs what the engines need: a C++ toolchain for llama.cpp, and a virtual environment with onnxruntime and
# transformers in .venv. Does nothing that is already done.
#
# usage: tools/setup.sh [--all]      --all: also Qualcomm's HTP simulator in .venv, which is proprietary (its licence allows
#                                    development and benchmarks), OpenVINO in .venv-openvino, and what only the tests use:
#                                    Optimum in .venv-optimum, transformers.js in .node, and Chromium
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(cmake libclang-dev g++ python3-venv)
if [ "${1:-}" = --all ]; then
  # A page without a font has no text to look at.
  packages+=(fonts-dejavu-core)
  command -v chromium >/dev/null || packages+=(chromium)
fi
if [ "${1:-}" = --all ] && ! command -v npm >/dev/null; then
  packages+=(nodejs npm)
fi
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup: please install ${missing[*]} (no apt-get here)" >&2
    exit 2
  fi
  echo "setup: installing ${missing[*]}" >&2
  as_root=(); [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# venv DIR REQUIREMENTS [NAME]      NAME: of requirements that are added to an environment
venv() {
  local mark="$1/installed${3:+-$3}.txt"
  if ! cmp -s "$2" "$mark"; then
    echo "setup: installing $2 into $1" >&2
    python3 -m venv "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$2"
    cp "$2" "$mark"
  fi
}
venv .venv tools/requirements.txt
if [ "${1:-}" = --all ]; then
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    venv .venv tools/requirements-htp.txt htp
  fi
  venv .venv-openvino tools/requirements-openvino.txt
  # torch and its libraries are 5 GB, so this environment sees those of .venv behind its own packages.
  if [ ! -d .venv-optimum ]; then
    python3 -m venv .venv-optimum
    sites() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
    sites .venv >"$(sites .venv-optimum)/beside.pth"
  fi
  venv .venv-optimum tools/requirements-optimum.txt
  if ! cmp -s tools/package.json .node/installed.json; then
    echo "setup: installing tools/package.json into .node" >&2
    mkdir -p .node
    cp tools/package.json .node/package.json
    # Without scripts: the package of onnxruntime brings its library, and its script would fetch others.
    (cd .node && npm install --silent --no-audit --no-fund --ignore-scripts)
    cp tools/package.json .node/installed.json
  fi
fi
