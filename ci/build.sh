#!/usr/bin/env bash
# Runs `trefoil build` for a CI service: what it printed and said is kept, and only what was asked for stays in the cache.
#
# usage: ci/build.sh STATE RECIPES [more arguments of `trefoil build`]
#
# STATE gets build.json and errors.txt, which ci/annotations.py and ci/comment.py read. RECIPES are files or patterns (**, too),
# separated by spaces. TREFOIL_CACHE names the cache. Its artifacts and validations that this build did not ask for are removed:
# what is left is what the other machines need, and no more is carried to the next run. Exit code: that of the build.
set -euo pipefail
state=$1 patterns=$2
shift 2
shopt -s nullglob
# The bash of macOS has no `**`.
shopt -s globstar 2>/dev/null || true
recipes=()
for pattern in $patterns; do recipes+=("$pattern"); done
if [ ${#recipes[@]} = 0 ]; then
    echo "build: no recipe is named by: $patterns" >&2
    exit 2
fi
mkdir -p "$state" "$TREFOIL_CACHE"
: >"$state/began"
status=0
# stdout is the file, and stderr goes on to the log of the job.
{ trefoil build "${recipes[@]}" --verbose --json "$@" 2>&1 >"$state/build.json" || status=$?
  echo "$status" >"$state/status"; } | tee "$state/errors.txt" >&2
# The time of change says when somebody last asked for an entry; in a folder it is that of the file `entry`.
for entry in "$TREFOIL_CACHE"/artifact/* "$TREFOIL_CACHE"/validation/*; do
    asked=$entry
    [ ! -d "$entry" ] || asked=$entry/entry
    [ "$asked" -nt "$state/began" ] || rm -rf "$entry"
done
rm -rf "$TREFOIL_CACHE/work"
exit "$(<"$state/status")"
