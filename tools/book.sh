#!/usr/bin/env bash
# Makes a book of docs/ in build/book/index.html. A link, an anchor or a page that leads nowhere is exit code 1.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh --book
if ! .venv-book/bin/python -m sphinx -q -E -W --keep-going -b html -d build/book-state docs build/book; then
    exit 1
fi
echo "book: build/book/index.html" >&2
