#!/usr/bin/env bash
# Puts a page under a pull request: in place of the one that has the same first line, else as a new comment.
#
# usage: ci/github/comment.sh REPOSITORY NUMBER PAGE
#
# Needs `gh` with a token in GH_TOKEN that may write pull requests. Only comments of bots are replaced.
set -euo pipefail
repository=$1 number=$2 page=$3
read -r marker <"$page"
export marker
old=$(gh api --paginate "repos/$repository/issues/$number/comments" \
    --jq '.[] | select(.user.type == "Bot" and (.body | startswith(env.marker))) | .id')
# Of several the first; there are several when two runs ended at once.
read -r old <<<"$old"
if [ -n "$old" ]; then
    gh api --method PATCH "repos/$repository/issues/comments/$old" --field "body=@$page" --silent
else
    gh api --method POST "repos/$repository/issues/$number/comments" --field "body=@$page" --silent
fi
