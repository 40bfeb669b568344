#!/usr/bin/env bash
# Says what a build found: as annotations, as the summary of the job, and under the pull request.
#
# usage: STATE=… NAME=… [SHARD=1/3] [COMMENT=true] [NUMBER=…] ci/github/say.sh
#
# STATE is that of ci/build.sh. A shard has annotations alone, since the join says the rest. A comment that cannot be written, as in
# a pull request from a fork, whose token reads only, is a warning: the summary has it too.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
build=$STATE/build.json errors=$STATE/errors.txt page=$STATE/page.md
if [ ! -e "$build" ]; then
    exit 0 # The build did not begin, and has said why.
fi
"$here/../annotations.py" "$build" "$errors"
if [ -n "${SHARD:-}" ]; then
    exit 0
fi
"$here/../reports.py" "$build" "$STATE/reports"
# A summary may be sixteen times as long as a comment.
"$here/../comment.py" "$build" "$errors" "$NAME" 1000000 >>"$GITHUB_STEP_SUMMARY"
if [ "${COMMENT:-}" = true ] && [ -n "${NUMBER:-}" ]; then
    "$here/../comment.py" "$build" "$errors" "$NAME" >"$page"
    if ! "$here/comment.sh" "$GITHUB_REPOSITORY" "$NUMBER" "$page"; then
        echo "::warning title=trefoil::the report is not under the pull request, as this token may not write there; the summary has it"
    fi
fi
