"""What `trefoil build --json` told, and the reports that it wrote."""

import json
from pathlib import Path


def read(file):
    """What a build printed; None where it ended before it could."""
    text = Path(file).read_text(encoding="utf-8")
    return json.loads(text) if text.strip() else None


def error(file):
    """The sentence of the error that ended a build, with its hint: the last line of stderr that is an object, else the last line."""
    lines = Path(file).read_text(encoding="utf-8", errors="replace").split("\n")
    for line in reversed(lines):
        if line.startswith('{"error"'):
            found = json.loads(line)["error"]
            return found["message"] + (f"\nhint: {found['hint']}" if found["hint"] else "")
    said = [line for line in lines if line.strip()]
    return said[-1] if said else "trefoil ended without a word"


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
    figure, limit = "", check.get("limit")
    if check.get("value") is not None and isinstance(limit, dict):
        bounds = ", ".join(f"{word.replace('_', ' ')} {bound:g}" for word, bound in limit.items())
        figure = f" ({check['metric']} {check['value']:.6g}, {bounds})"
    return f"{check['link']}: {check['what']}{figure}: {check['sentence']}"
