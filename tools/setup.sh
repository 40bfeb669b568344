#!/usr/bin/env bash
# Installs what the engines need, says before how much is downloaded, and does nothing that is already done.
#
# usage: tools/setup.sh              a C++ toolchain for llama.cpp, and onnxruntime in .venv: all that tools/demo.sh needs
#        tools/setup.sh --all        also transformers, CTranslate2, transcribe.cpp, CrispASR and whisper.cpp in .venv; Qualcomm's HTP
#                                    simulator there, which is proprietary (its licence allows development and benchmarks);
#                                    OpenVINO in .venv-openvino; and what only the tests use: Optimum in .venv-optimum, Snakemake in .venv-snakemake,
#                                    transformers.js in .node, Chromium
#        tools/setup.sh --book       only what tools/book.sh needs, in .venv-book
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-}
case $what in
  "") packages=(cmake libclang-dev g++ python3-venv) ;;
  --all)
    # A page without a font has no text to look at; valgrind's processor is another one, for bytes that do not depend on it.
    packages=(cmake libclang-dev g++ python3-venv fonts-dejavu-core valgrind)
    command -v chromium >/dev/null || packages+=(chromium)
    command -v npm >/dev/null || packages+=(nodejs npm)
    ;;
  --book) packages=(python3-venv) ;;
  *)
    echo "setup: expected --all, --book or nothing, found $what" >&2
    exit 2
    ;;
esac

# Environments: its folder, the list of what is in it, and the copy of that list which says that it has been installed.
environments=()
environment() {
  cmp -s "$2" "$1/installed${3:+-$3}.txt" || environments+=("$1 $2 $1/installed${3:+-$3}.txt")
}
if [ "$what" = --book ]; then
  environment .venv-book tools/requirements-book.txt
else
  environment .venv tools/requirements.txt
fi
node=
if [ "$what" = --all ]; then
  environment .venv tools/requirements-transformers.txt transformers
  environment .venv tools/requirements-provenance.txt provenance
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    environment .venv tools/requirements-htp.txt htp
  fi
  environment .venv-openvino tools/requirements-openvino.txt
  environment .venv-optimum tools/requirements-optimum.txt
  environment .venv-snakemake tools/requirements-snakemake.txt
  cmp -s tools/package.json .node/installed.json || node=tools/package.json
fi

missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done

# size FILE      what its comment says of the download
size() {
  sed -n 's/.*\(download: [^"]*\).*/\1/p' "$1"
}
for each in "${environments[@]}"; do
  read -r folder list _ <<<"$each"
  echo "setup: to be installed into $folder: $list ($(size "$list"))" >&2
done
[ -z "$node" ] || echo "setup: to be installed into .node: $node ($(size $node))" >&2

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup: please install ${missing[*]} (no apt-get here)" >&2
    exit 2
  fi
  as_root=(); [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  # It answers no to its own question, and that is its failure.
  need=$(LC_ALL=C apt-get install --assume-no --no-install-recommends "${missing[@]}" 2>/dev/null |
    sed -n 's/^Need to get \(.*\) of archives.*/\1/p' || true)
  echo "setup: to be installed by apt-get: ${missing[*]} (download: ${need:-unknown})" >&2
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

site_packages() {
  "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}
for each in "${environments[@]}"; do
  read -r folder list mark <<<"$each"
  echo "setup: installing $list into $folder" >&2
  [ -x "$folder/bin/python" ] || python3 -m venv "$folder"
  if [ "$folder" = .venv-optimum ]; then
    # One torch for all: this environment sees the packages of .venv behind its own.
    site_packages .venv >"$(site_packages .venv-optimum)/beside.pth"
  fi
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list"
  cp "$list" "$mark"
done
if [ -n "$node" ]; then
  echo "setup: installing $node into .node" >&2
  mkdir -p .node
  cp "$node" .node/package.json
  # Without scripts: the package of onnxruntime brings its library, and its script would fetch others.
  (cd .node && npm install --silent --no-audit --no-fund --ignore-scripts)
  cp "$node" .node/installed.json
fi
