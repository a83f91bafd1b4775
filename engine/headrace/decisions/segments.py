"""The files of decision records: begun, filled, ended, found again, and dropped when they are old or too many."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from headrace.decisions.catalog import Numbers
from headrace.decisions.layout import SUFFIX, start_of_segment
from headrace.decisions.settings import DecisionsConfig

FOLDER = "decisions"
_MIB = 1 << 20
_DAY_S = 86_400.0


def segment_paths(folder: Path) -> list[Path]:
    """The segments of a folder, the oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())


def clean_until(path: Path) -> int:
    """The event of the log up to which a segment knows nobody who was erased; 0 where its name does not say."""
    said = path.stem.rpartition("-")[2]
    return int(said) if said.isdecimal() else 0


def mark_clean(path: Path, sequence: int) -> None:
    """Let a segment's name say that it knows nobody who was erased up to an event of the log."""
    path.rename(_named(path.parent, path.stem.rpartition("-")[0], sequence))


def _named(folder: Path, name: str, sequence: int) -> Path:
    return folder / f"{name}-{sequence}{SUFFIX}"


class Segment:
    """The file that is being filled; locked, so that no other process rewrites it.

    sequence : see `clean_until`.

    Attributes: ``numbers`` of what it refers to, ``n_bytes`` its size, ``begun_s``.
    """

    def __init__(self, folder: Path, now_s: float, sequence: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = _named(folder, f"{int(now_s * 1000):015d}-{secrets.token_hex(4)}", sequence)
        self.begun_s = now_s
        self.numbers = Numbers()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._stream = os.fdopen(handle, "wb", buffering=0)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self.n_bytes = 0
        self.write(start_of_segment())

    def write(self, raw: bytes) -> None:
        """Append whole frames; OSError when not all of them could be written, and the file ends there."""
        view = memoryview(raw)
        while view:
            n = self._stream.write(view)
            self.n_bytes += n
            view = view[n:]

    def close(self, sequence: int) -> None:
        """Put it on the disk, name it clean up to an event of the log, and let go of it."""
        with contextlib.suppress(OSError):
            os.fsync(self._stream.fileno())
            mark_clean(self.path, sequence)
        self._stream.close()


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Within: whether nobody fills this segment, so that it may be replaced or removed."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def drop_old(folder: Path, config: DecisionsConfig, now_s: float) -> int:
    """Remove segments that are over their time, then the oldest while all take too much room; returns how many.

    The one that is being filled stays.
    """
    found: list[tuple[Path, int, float]] = []
    for path in segment_paths(folder):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((path, status.st_size, status.st_mtime))
    total = sum(size for _, size, _ in found)
    dropped = 0
    for path, size, written_s in found:
        if total <= config.keep_mib * _MIB and written_s >= now_s - config.keep_days * _DAY_S:
            continue
        with held(path) as free:
            if free:
                path.unlink(missing_ok=True)
                total -= size
                dropped += 1
    return dropped
