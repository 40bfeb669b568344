#!/usr/bin/env bash
# Feeds every reader of files from outside, and importers with settings that nobody meant, with what a fuzzer makes of the fixtures.
#
# usage: tools/fuzz.sh SECONDS
#
# Shares the seconds among the targets, two of them at a time, and prints how many inputs each read. What a run finds stays in
# fuzz/artifacts, and its path ends the output; new inputs that reach new code are kept in fuzz/corpus, which is not in git.
#
# Exit codes: 0 nothing found, 1 something that was found before is there again, 2 could not run, 3 something new.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:?usage: tools/fuzz.sh SECONDS}
# Of the list in fuzz/src/lib.rs.
targets=$(sed -n 's/.*Target { name: "\([a-z_]*\)".*/\1/p; s/^ *name: "\([a-z_]*\)",$/\1/p' src/lib.rs)
jobs=$(($(nproc) < 2 ? 1 : 2))

fail() {
    cat "$1" >&2
    exit "${2:-2}"
}

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
if ! cargo fuzz --version >"$log/tool" 2>&1; then
    cargo install cargo-fuzz --locked --version 0.13.2 >"$log/tool" 2>&1 || fail "$log/tool"
fi
# No sanitizer, so that the stable compiler does: memory is counted by an allocator of the crate itself.
cargo fuzz build --fuzz-dir . --sanitizer none inputs >"$log/build" 2>&1 || fail "$log/build"
binary=$(find target/*/release -maxdepth 1 -name inputs -type f | head -n 1)

# What was found once, each input by itself.
for input in corpus-found/*/*; do
    [ -f "$input" ] || continue
    target=$(basename "$(dirname "$input")")
    TREFOIL_FUZZ=$target "$binary" -timeout=20 -rss_limit_mb=2048 -artifact_prefix="$log/" "$input" >"$log/again" 2>&1 ||
        fail "$log/again" 1
done

one() {
    local target=$1 dir="corpus/$1"
    mkdir -p "$dir" "corpus-found/$target" "artifacts/$target"
    if [ -z "$(ls "$dir")" ]; then
        TREFOIL_FUZZ=$target TREFOIL_FUZZ_SEEDS=$dir "$binary" >"$log/$target" 2>&1 || return 0
    fi
    # An input that hangs is found as well: none takes seconds.
    TREFOIL_FUZZ=$target "$binary" -max_total_time="$2" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -len_control=20 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 "$dir" "corpus-found/$target" >"$log/$target" 2>&1 || true
    local runs new
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log/$target")
    new=$(sed -n 's/^stat::new_units_added: *//p' "$log/$target")
    echo "$target: ${runs:-0} inputs, ${new:-0} of them new"
    echo "${runs:-0}" >"$log/$target.runs"
}

count=$(wc -w <<<"$targets")
each=$((seconds * jobs / count > 0 ? seconds * jobs / count : 1))
for target in $targets; do
    one "$target" "$each" &
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
        wait -n || true
    done
done
wait

awk '{ sum += $1 } END { print sum + 0 " inputs in all" }' "$log"/*.runs
found=$(find artifacts -type f -newer "$log/build")
for target in $targets; do
    # A target that did not start has found nothing, and that is no result.
    [ -s "$log/$target.runs" ] && [ "$(cat "$log/$target.runs")" -gt 0 ] || fail "$log/$target"
done
if [ -n "$found" ]; then
    echo "found: $found"
    echo "hint: TREFOIL_FUZZ=<target> fuzz/$binary fuzz/artifacts/<target>/<input> runs one again; it belongs into fuzz/corpus-found"
    exit 3
fi
