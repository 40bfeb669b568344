#!/usr/bin/env python3
"""Puts a page under a merge request: in place of the note that has the same first line, else as a new one.

usage: ci/gitlab/note.py PAGE

Needs TREFOIL_GITLAB_TOKEN, an access token with the scope `api`, and the variables that GitLab sets in pipelines of merge requests;
where either is missing a sentence says so, and that is all. Notes of others are left alone.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def ask(method, path, body=None):
    """The answer, and the number of the next page of it."""
    request = urllib.request.Request(
        os.environ["CI_API_V4_URL"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"PRIVATE-TOKEN": os.environ["TREFOIL_GITLAB_TOKEN"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer), answer.headers.get("X-Next-Page")


def notes(path):
    page = "1"
    while page:
        found, page = ask("GET", f"{path}?per_page=100&page={page}")
        yield from found


def main(page):
    wanted = ["TREFOIL_GITLAB_TOKEN", "CI_API_V4_URL", "CI_PROJECT_ID", "CI_MERGE_REQUEST_IID"]
    missing = [name for name in wanted if not os.environ.get(name)]
    if missing:
        print(f"note: no note is written without {', '.join(missing)}", file=sys.stderr)
        return
    body = Path(page).read_text(encoding="utf-8")
    marker = body.split("\n", 1)[0]
    path = "/projects/{CI_PROJECT_ID}/merge_requests/{CI_MERGE_REQUEST_IID}/notes".format_map(os.environ)
    try:
        own, _ = ask("GET", "/user")
        is_old = lambda note: note["author"]["id"] == own["id"] and note["body"].startswith(marker)
        old = next(filter(is_old, notes(path)), None)
        if old:
            ask("PUT", f"{path}/{old['id']}", {"body": body})
        else:
            ask("POST", path, {"body": body})
    except urllib.error.URLError as error:
        sys.exit(f"note: {os.environ['CI_API_V4_URL']}: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
