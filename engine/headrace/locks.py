"""Ownership of a thing by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class OwnerLock:
    """An advisory lock on a file; the kernel drops it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._handle = -1

    def try_acquire(self) -> bool:
        """Take the lock if no other process has it; True when this process has it now."""
        if self._handle >= 0:
            return True
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Let go; nothing happens when the lock is not held."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def intact(self) -> bool:
        """Whether the lock is held and its file is still the one at the path, which whoever removes it undoes."""
        if self._handle < 0:
            return False
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._handle)
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    @property
    def held(self) -> bool:
        return self._handle >= 0
