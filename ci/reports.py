#!/usr/bin/env python3
"""Copies the reports of a build to one place: FOLDER/RECIPE/report.json, .md, .html and .xml (JUnit).

usage: ci/reports.py BUILD FOLDER
"""

import shutil
import sys
from pathlib import Path

import told


def main(build, folder):
    said = told.read(build)
    for recipe in said["recipes"] if said else ():
        if told.page(recipe) is None:
            continue
        # Of its path, as two folders may have recipes of one name.
        place = Path(folder, "-".join(Path(recipe["recipe"]).with_suffix("").parts).strip("/-"))
        place.mkdir(parents=True, exist_ok=True)
        for report in Path(recipe["out"]).glob("report.*"):
            shutil.copyfile(report, place / report.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
