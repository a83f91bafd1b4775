"""Where the machine code of kernels is kept: beside them, in the user's cache, or for one process alone."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from numba import config


def keep_compiled(folder: Path) -> None:
    """Give Numba a folder of this process's own when it can write neither beside the kernels nor to the user's cache.

    Without any, Numba refuses to define a kernel at all. The folder is private, since what lies in it is executed, and
    gone with the process: every start compiles again, and a line on stderr says how to avoid that.
    """
    if config.CACHE_DIR or _writable(folder / "__pycache__") or _writable(_user_cache()):
        return
    config.CACHE_DIR = tempfile.mkdtemp(prefix="headrace-kernels-")
    atexit.register(shutil.rmtree, config.CACHE_DIR, ignore_errors=True)
    print("kernels are compiled anew at every start; point NUMBA_CACHE_DIR at a folder to keep them", file=sys.stderr)


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(home))


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that is there, can be written to."""
    while not os.path.lexists(folder) and folder != folder.parent:
        if not os.access(folder.parent, os.X_OK):
            return False
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
