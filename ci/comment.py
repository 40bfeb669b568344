#!/usr/bin/env python3
"""Writes what a build found as one page of Markdown: the reports of all recipes, and what kept others from having one.

usage: ci/comment.py BUILD ERRORS NAME [MOST]

BUILD is what `trefoil build --json` printed and ERRORS what it said on stderr. The page begins with an invisible line that holds
NAME, by which the comment is found that it replaces. It has MOST characters at most (65,536, as a comment of GitHub): reports that do
not fit are left out as a whole, and a sentence says so.
"""

import re
import sys

import told

GITHUB_MOST = 65_536


def marker(name):
    """The first line of the page. A name is of letters, digits and `-`, so that it cannot end the line of HTML."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
        sys.exit(f"comment: {name!r}: expected letters, digits and -")
    return f"<!-- trefoil {name} -->"


def verbatim(text, most=4000):
    """Text from outside, in which nothing is a link, a mention or HTML: between fences longer than any in it."""
    if len(text) > most:
        text = text[:most] + " …"
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}\n"


def line_of(text):
    """A name from outside within a line, as code."""
    return "`" + re.sub(r"[`\s]+", " ", text) + "`"


def section(recipe):
    name = line_of(recipe["recipe"])
    text = f"### {name}\n\n"
    if recipe["error"]:
        return text + "could not be built:\n\n" + verbatim(recipe["error"])
    if recipe["drift"]:
        rows = "\n".join(recipe["drift"])
        return text + "is not as its lock says, and nothing was changed:\n\n" + verbatim(rows)
    page = told.page(recipe)
    if page is not None:
        # Headings below that of the recipe; the pages that it names lie among the reports and not beside a comment.
        page = re.sub(r"\[(report\.\w+)\]\(\1\)", r"\1", page)
        return text + re.sub(r"^(#+ )", r"###\1", page, flags=re.M)
    rows = [f"- {line_of(one['name'])}: {one['came']}, {one['verdict'].replace('_', ' ')}" for one in recipe["artifacts"]]
    return text + "\n".join(rows or ["nothing was asked of it here"]) + "\n"


def write(build, errors, name, most):
    said = told.read(build)
    if said is None:
        sections = ["trefoil could not run:\n\n" + verbatim(told.error(errors))]
    else:
        sections = [section(recipe) for recipe in said["recipes"]]
        if said["damaged"]:
            sections.append("Entries of the cache were damaged:\n\n" + verbatim("\n".join(said["damaged"])))
    page, left = marker(name) + "\n", 0
    # Room for the sentence about what is left out.
    for text in sections:
        if len(page) + len(text) + 200 > most:
            left += 1
        else:
            page += f"\n{text}"
    if left:
        page += f"\n{left} of {len(sections)} parts are too long for this place; the artifacts of the run hold the reports.\n"
    return page


if __name__ == "__main__":
    arguments = sys.argv[1:]
    most = int(arguments[3]) if len(arguments) > 3 else GITHUB_MOST
    sys.stdout.write(write(*arguments[:3], most))
