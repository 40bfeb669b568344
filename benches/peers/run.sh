#!/usr/bin/env bash
# Optimum, CTranslate2 and llama.cpp beside trefoil on a random T5 of 223 million parameters: conversion, first token, tokens per
# second, memory. Prints the tables of docs/measurements.md. Takes more than a quarter of an hour on two cores.
#
# usage: benches/peers/run.sh [ROUNDS]
#
# PEERS_VENV names an environment that has benches/peers/requirements.txt installed; without it one is made in target/bench.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=${PEERS_VENV:-target/bench/peers-venv}
requirements=benches/peers/requirements.txt
if [ -z "${PEERS_VENV:-}" ] && ! cmp -s "$requirements" "$venv/installed.txt"; then
  echo "peers: installing $requirements into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
  cp "$requirements" "$venv/installed.txt"
fi
export ORT_DISABLE_TELEMETRY=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
venv=$(cd "$venv" && pwd)
exec cargo bench --features llama-cpp --bench peers -- "$venv" "${1:-3}"
