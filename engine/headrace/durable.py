"""Files that are on disk once a call has returned."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o600


def write(file: Path, raw: bytes) -> None:
    """Write a file, or over one; whoever replaces a file by it syncs the folder, too."""
    _write(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), raw)


def write_private(file: Path, raw: bytes) -> None:
    """Write a new file that only its owner reads. Raises FileExistsError."""
    _write(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), raw)


def sync(path: Path) -> None:
    """Wait until a file is on disk, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, raw: bytes) -> None:
    with os.fdopen(handle, "wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
