# What both far sides of a pipe begin with: how they end, and what they cannot do. Their program follows.
import ctypes
import importlib
import os
import signal
import sys


def answering():
    """Requests and replies as binary files. Replies go to the real stdout; whatever a library prints, from Python or from C,
    goes to stderr. Ends with its parent."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    end_with_parent()
    return sys.stdin.buffer, replies


class Refused(Exception):
    """A request that cannot be answered, with the whole reason as its text."""


class NotInstalled(Exception):
    def __init__(self, package):
        super().__init__(f"the package {package} is not installed in {sys.prefix}")
        self.package = package


def installed(package):
    """Imports a package. One that is there and lacks another is broken, not absent."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as e:
        if e.name != package:
            raise
    raise NotInstalled(package)


def end_with_parent():
    """A call into C would not see that the requests have ended."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


