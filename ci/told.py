"""What `trefoil build --json` told, and the reports that it wrote."""

import json
from pathlib import Path


def read(file):
    """What a build printed; None where it ended before it could."""
    text = Path(file).read_text(encoding="utf-8")
    return json.loads(text) if text.strip() else None


def error(file):
    """The sentence of the error that ended a build, with the hint: the last line of stderr that is an object."""
    for line in reversed(Path(file).read_text(encoding="utf-8", errors="replace").splitlines()):
        if line.startswith("{"):
            found = json.loads(line)["error"]
            return found["message"] + (f"\nhint: {found['hint']}" if found["hint"] else "")
    return None


def report(recipe):
    """The report of a recipe whose artifacts lie in their places."""
    if not recipe["out"] or not recipe["verdict"]:
        return None
    return json.loads(Path(recipe["out"], "report.json").read_text(encoding="utf-8"))


def page(recipe):
    """Its Markdown, which trefoil keeps free of links, HTML and mentions."""
    if not recipe["out"] or not recipe["verdict"]:
        return None
    return Path(recipe["out"], "report.md").read_text(encoding="utf-8")


def failed(checks):
    return [check for check in checks if check["outcome"] == "failed"]


def sentence(check):
    """What was compared, what was found, and what to try."""
    return f"{check['link']}: {check['what']}: {check['sentence']}"
