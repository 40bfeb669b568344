"""Whether packages can be imported, and their versions.

usage: far_side.py and this file as one program, with PACKAGE...

Imports each of them, then answers requests from stdin on stdout until the end of stdin, a line of JSON each:

    {"call":"versions"}                          -> {"ok":true,"versions":[..]}, in the order of the arguments

Where one cannot be imported it answers {"ok":false,"error":".."}, with "lacks" and its name when it is not installed.
"""
import importlib.metadata
import json
import sys


def version(package):
    """As the package says itself; else as its installer does."""
    known = getattr(installed(package), "__version__", None)
    try:
        return str(known or importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def main():
    requests, replies = answering()
    try:
        found = [version(package) for package in sys.argv[1:]]
        head = {"ok": True, "versions": found}
    except NotInstalled as e:
        head = {"ok": False, "error": str(e), "lacks": e.package}
    except Exception as e:
        head = {"ok": False, "error": f"{type(e).__name__}: {e}"}
    while requests.readline():
        replies.write(json.dumps(head).encode() + b"\n")
        replies.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
