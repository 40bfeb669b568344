#!/usr/bin/env python3
"""Says what a build found as annotations of GitHub: a line for each thing, at the line of a file that it is about.

usage: ci/annotations.py BUILD ERRORS

BUILD is what `trefoil build --json` printed and ERRORS what it said on stderr. Paths are told below GITHUB_WORKSPACE, else below
the working folder. Reports are read where the build says that it put them. Always exit code 0: the verdict is the build's.
"""

import json
import os
import re
import sys
from pathlib import Path

import told

# What a step shows; the report has all.
MOST = 10


def data(text):
    """A message: the rest of the line, in which these three would mean something."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def value(text):
    """A property, which also ends at a comma."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def annotation(kind, file, line, title, message):
    root = os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
    place = f"file={value(os.path.relpath(file, root))},line={line}," if file else ""
    return f"::{kind} {place}title={value(title)}::{data(message)}"


def lines(file):
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def line_of_key(recipe, key):
    """Of a key of a recipe's first level; the first line where there is none."""
    found = (i for i, line in enumerate(lines(recipe), 1) if re.match(rf"{key}\s*:", line))
    return next(found, 1)


def line_of_artifact(recipe, name):
    """Where an artifact of a recipe begins: the item that says its name, else its format. A list in one line is that line."""
    text = lines(recipe)
    first = line_of_key(recipe, "artifacts")
    starts, indent = [], None
    for i, line in enumerate(text[first:], first + 1):
        item = re.match(r"(\s*)-\s", line)
        if item and indent in (None, item[1]):
            indent = item[1]
            starts.append(i)
        elif re.match(r"[^\s#-]", line):
            break
    ends = [start - 1 for start in starts[1:]] + [len(text)]
    word = rf"[\"']?{re.escape(name)}[\"']?"
    for says in (rf"\s*(-\s+)?name\s*:\s*{word}\s*(#.*)?$", rf"\s*-\s+{word}\s*(:|$)"):
        for start, end in zip(starts, ends):
            if any(re.match(says, line) for line in text[start - 1 : end]):
                return start
    return first


def line_of_error(recipe, sentence):
    """As the sentence says it: `recipe.yaml:3:5` or `at line 3`."""
    found = re.search(rf"{re.escape(Path(recipe).name)}:(\d+)|\bline (\d+)", sentence)
    return int(found[1] or found[2]) if found else 1


def of_recipe(recipe):
    file = recipe["recipe"]
    if recipe["error"]:
        yield annotation("error", file, line_of_error(file, recipe["error"]), "trefoil", recipe["error"])
    lock = str(Path(file).with_suffix(".lock"))
    for row in recipe["drift"]:
        yield annotation("error", lock, 1, "not as the lock says", row)
    report = told.report(recipe)
    for check in told.failed(report["checks"]) if report else ():
        yield annotation("error", file, line_of_key(file, "model"), "trefoil: model", told.sentence(check))
    checks = {one["name"]: one["checks"] for one in report["artifacts"]} if report else {}
    for artifact in recipe["artifacts"]:
        name = artifact["name"]
        failed = [told.sentence(check) for check in told.failed(checks.get(name, []))]
        if artifact["verdict"] == "failed":
            line = line_of_artifact(file, name)
            for sentence in failed or ["a check failed; the log of this step says which"]:
                yield annotation("error", file, line, f"trefoil: {name}", sentence)


def main(build, errors):
    said = told.read(build)
    if said is None:
        sentence = told.error(errors)
        place = re.search(r"([^\s:]+\.ya?ml)(?::(\d+))?", sentence)
        file = place[1] if place and Path(place[1]).exists() else None
        line = line_of_error(file, sentence) if file else 1
        print(annotation("error", file, line, "trefoil", sentence))
        return
    found = [line for recipe in said["recipes"] for line in of_recipe(recipe)]
    for line in found[:MOST]:
        print(line)
    if len(found) > MOST:
        print(annotation("notice", None, 1, "trefoil", f"{len(found) - MOST} more failures stand in the report"))
    for sentence in said["damaged"]:
        print(annotation("warning", None, 1, "an entry of the cache was damaged", sentence))


if __name__ == "__main__":
    main(*sys.argv[1:])
