"""What was learned of prices, kept in a file of the data folder: a restart goes on from there.

The file is replaced in whole. Whatever is wrong with it, the server starts without it: prices are learned anew.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace import durable
from headrace.bidding.pricing.winrate import EDGES_CPM, Lessons
from headrace.errors import DataError
from headrace.kernels.winrate import BINS_PER_OCTAVE, FIRST_OCTAVE, LAST_OCTAVE

NAME = "prices.snapshot"
MAGIC = b"headrace prices 1\n"
MAX_BYTES = 64 << 20
"""Larger than 1,024 rows can be; nothing above it is read."""
HALF_LIFE_MS = 86_400_000.0
"""What is so old when a process starts counts half."""
HINT = "prices are learned anew; the file will be replaced"
_GRID = (FIRST_OCTAVE, LAST_OCTAVE, BINS_PER_OCTAVE)
_N_EDGES = len(EDGES_CPM)
_COLUMNS: dict[str, tuple[np.dtype[Any], int]] = {
    "prices": (np.dtype("<f4"), _N_EDGES - 1),
    "wins": (np.dtype("<f4"), _N_EDGES),
    "losses": (np.dtype("<f4"), _N_EDGES),
    "weight": (np.dtype("<f8"), 1),
    "theta": (np.dtype("<f8"), _N_EDGES - 2),
    "smooth": (np.dtype("<f8"), 1),
    "jumps": (np.dtype("?"), _N_EDGES - 2),
}
"""Of each table its type and width."""

_log = logging.getLogger("headrace.bidding")


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    grid: tuple[int, int, int]
    saved_ms: int
    paths: list[tuple[str | int, ...]]
    tables: dict[str, bytes]


class Snapshot:
    """The snapshot of a data folder. Attribute ``n_refused``: how often there was one that could not be used."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME
        self.n_refused = 0

    def save(self, kept: Lessons, now_ms: int) -> None:
        """Replace what was kept; answers once it is on disk. Raises OSError, with the old file as it was."""
        tables = {name: np.asarray(getattr(kept, name), kind).tobytes() for name, (kind, _) in _COLUMNS.items()}
        content = _Content(_GRID, now_ms, list(kept.paths), tables)
        packed = zlib.compress(msgspec.msgpack.encode(content), 1)
        draft = self._file.with_suffix(".part")
        durable.write(draft, MAGIC + hashlib.sha256(packed).digest() + packed)
        draft.replace(self._file)

    def load(self, now_ms: int) -> tuple[Lessons, float] | None:
        """What was kept and what its age leaves of its weight, in (0, 1]; None without any that can be used.

        One that cannot be used is counted, and logged as a warning. A time ahead of ``now_ms`` counts as now.
        """
        try:
            if not self._file.exists():
                return None
            if self._file.stat().st_size > MAX_BYTES:
                raise DataError(f"more than {MAX_BYTES} bytes")
            kept, saved_ms = _read(self._file.read_bytes())
        except (OSError, DataError) as error:
            self.n_refused += 1
            _log.warning("%s is not used: %s; %s", self._file, error, HINT)
            return None
        return kept, 0.5 ** (max(now_ms - saved_ms, 0) / HALF_LIFE_MS)


def _read(raw: bytes) -> tuple[Lessons, int]:
    """What a file keeps, and the moment of it. Raises DataError."""
    if not raw.startswith(MAGIC):
        raise DataError("not a snapshot of prices of this version")
    checksum, packed = raw[len(MAGIC) :][:32], raw[len(MAGIC) + 32 :]
    if hashlib.sha256(packed).digest() != checksum:
        raise DataError("torn or damaged: its checksum does not match")
    try:
        unpacked = zlib.decompressobj().decompress(packed, MAX_BYTES)
        content = msgspec.msgpack.decode(unpacked, type=_Content)
    except (zlib.error, msgspec.DecodeError) as error:
        raise DataError(f"unreadable: {error}") from error
    if {len(path) for path in content.paths} - {0, 1, 3, 4}:
        raise DataError("its rows are none")
    if content.grid != _GRID or content.tables.keys() != _COLUMNS.keys():
        raise DataError("of other bins of prices")
    n, tables = len(content.paths), {}
    for name, (kind, width) in _COLUMNS.items():
        if len(content.tables[name]) != n * width * kind.itemsize:
            raise DataError(f"{name} has another size")
        table = np.frombuffer(content.tables[name], kind)
        if not np.isfinite(table).all():
            raise DataError(f"{name} has what is no number")
        tables[name] = table.reshape(n, width) if width > 1 else table
    evidence = (tables["prices"], tables["wins"], tables["losses"], tables["weight"], tables["smooth"])
    if any((table < 0.0).any() for table in evidence) or (np.diff(tables["theta"], axis=1) <= 0.0).any():
        raise DataError("what it says is no evidence")
    return Lessons(content.paths, **tables), content.saved_ms
