"""Where the machine code of kernels is kept: in the user's cache, beside them, or for one process alone."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from numba import config

_PRIVATE = "headrace-kernels-"


def keep_compiled(folder: Path) -> None:
    """Give Numba a folder to keep machine code in, unless the caller has named one (``NUMBA_CACHE_DIR``).

    The user's cache comes first: files beside the kernels outlive an uninstall, and the folder that they keep alive
    would then hide an editable install. Where neither can be written, Numba would refuse to define a kernel at all, so
    it gets a private folder of this process's own, gone with the process; a line on stderr says how to avoid that.
    """
    if config.CACHE_DIR:
        return
    if _writable(_user_cache()):
        config.CACHE_DIR = str(_user_cache())
    elif not _writable(folder / "__pycache__"):
        config.CACHE_DIR = tempfile.mkdtemp(prefix=_PRIVATE)
        atexit.register(shutil.rmtree, config.CACHE_DIR, ignore_errors=True)
        line = "kernels are compiled anew at every start; point NUMBA_CACHE_DIR at a folder to keep them"
        print(line, file=sys.stderr)


def kept(folder: Path) -> tuple[str, int]:
    """Where machine code outlives the process (empty: nowhere), and how many kernels' it is, of any version.

    folder : of the kernels, as given to :func:`keep_compiled`.
    """
    place = Path(config.CACHE_DIR) if config.CACHE_DIR else folder / "__pycache__"
    if place.name.startswith(_PRIVATE):
        return "", 0
    return str(place), len(list(place.rglob("*.nbi"))) if place.is_dir() else 0


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(home)) / "headrace"


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that is there, can be written to."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place) or place == place.parent)
    return os.access(nearest, os.W_OK | os.X_OK)
