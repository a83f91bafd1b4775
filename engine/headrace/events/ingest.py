"""Bulk events from columns: whole files into the log, each event once however often the file is read."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.errors import DataError
from headrace.events import items
from headrace.events.identity import ensure_subject
from headrace.events.schema import CLICK, IMPRESSION, VIEW
from headrace.events.store import Store
from headrace.types import Float64, Int8, Int64

CHUNK = 20_000
"""Events in one commit: so many that the fsync does not count, so few that a server beside it is not held up."""

UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of n strings as n codes into its distinct values."""

    codes: Int64
    values: list[str]

    @classmethod
    def of(cls, column: Any, name: str) -> Texts:
        """From a list, NumPy array or Arrow array of strings (numbers are written out); DataError on missing values."""
        import pyarrow as pa  # a fifth of a second that a server without bulk events need not pay

        array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if not pa.types.is_dictionary(array.type):
            array = array.cast(pa.string()).dictionary_encode()
        if array.null_count:
            missing = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise DataError(f"column {name}, row {missing}", got=None, expected="a text", hint="drop or fill the row")
        return cls(array.indices.to_numpy().astype(np.int64), [str(value) for value in array.dictionary.to_pylist()])

    def hashes(self) -> UInt64:
        """64 bits a row that depend on its text alone."""
        digests = b"".join(hashlib.blake2b(value.encode(), digest_size=8).digest() for value in self.values)
        return np.frombuffer(digests, dtype="<u8")[self.codes]


@dataclass(frozen=True, slots=True)
class IngestColumns:
    """n events of known users, one array a column.

    user_ids, item_ids, channels : texts. event_ids : n texts.
    times_ms : (n,) int64 > 0. types : (n,) int8, VIEW to IMPRESSION. quantities : (n,) float64, finite, >= 0.
    prices_micros : (n,) int64 of one piece, 0 when not known.
    """

    user_ids: Texts
    item_ids: Texts
    times_ms: Int64
    types: Int8
    quantities: Float64
    prices_micros: Int64
    channels: Texts
    event_ids: list[str]

    def check(self) -> None:
        """Raise DataError naming the column and the first row that is off."""
        bad_types = (self.types < VIEW) | (self.types > IMPRESSION)
        bad_quantities = ~np.isfinite(self.quantities) | (self.quantities < 0)
        _check_rows("times_ms", self.times_ms, self.times_ms <= 0, "ms since 1970, positive")
        _check_rows("types", self.types, bad_types, f"{VIEW} to {IMPRESSION} ({CLICK} is a click)")
        _check_rows("quantities", self.quantities, bad_quantities, "a finite number, zero or more; a return has type 4")
        _check_rows("prices_micros", self.prices_micros, self.prices_micros < 0, "zero or more")
        for name, texts in (("user_ids", self.user_ids), ("item_ids", self.item_ids)):
            if not all(map(_is_id, texts.values)):
                bad = next(value for value in texts.values if not _is_id(value))
                raise DataError(
                    f"column {name}", bad, "ids of 1 to 256 bytes without NUL", "drop or correct those rows"
                )

    def rows(self, first: int, last: int, user_keys: Int64, item_keys: Int64) -> Iterator[tuple[Any, ...]]:
        """Rows of the events table."""
        part = slice(first, last)
        channels = map(self.channels.values.__getitem__, self.channels.codes[part].tolist())
        return zip(
            self.event_ids[part],
            user_keys[self.user_ids.codes[part]].tolist(),
            self.types[part].tolist(),
            item_keys[self.item_ids.codes[part]].tolist(),
            self.times_ms[part].tolist(),
            self.quantities[part].tolist(),
            self.prices_micros[part].tolist(),
            channels,
            strict=True,
        )


def _is_id(value: str) -> bool:
    return 0 < len(value.encode()) <= 256 and "\0" not in value


def check_lengths(columns: Sequence[Sized]) -> None:
    """Raise DataError unless all columns have the same length."""
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise DataError(
            "the columns differ in length", sorted(lengths), "one length", "give each event a value in each"
        )


def _check_rows(name: str, column: npt.NDArray[Any], bad: npt.NDArray[np.bool_], expected: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"column {name}, row {row}", got=column[row].item(), expected=expected)


def content_ids(users: Texts, items: Texts, channels: Texts, numbers: Sequence[npt.NDArray[Any]]) -> list[str]:
    """An event id a row from what the row says, and from how many equal rows came before it in the same columns.

    numbers : arrays of 8-byte values, the times first; the id begins with them, so that a file in order of time
    appends to the end of the index.
    """
    mixed = np.zeros(len(users.codes), dtype=np.uint64)
    for part in (users.hashes(), items.hashes(), channels.hashes(), *(array.view(np.uint64) for array in numbers)):
        mixed = _mix(mixed ^ part)
    mixed = _mix(mixed + _ordinals(mixed))
    table = np.stack([numbers[0].astype(">u8"), mixed.astype(">u8")], axis=1)
    text = table.tobytes().hex()
    # twelve digits of milliseconds last until the year 10889
    return [text[start + 4 : start + 32] for start in range(0, len(text), 32)]


def _mix(value: UInt64) -> UInt64:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def _ordinals(values: UInt64) -> UInt64:
    """How many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(values) else order
    lengths = np.diff(np.append(starts, len(values)))
    ordinals = np.empty(len(values), dtype=np.uint64)
    ordinals[order] = (np.arange(len(values)) - np.repeat(starts, lengths)).astype(np.uint64)
    return ordinals


def append(store: Store, columns: IngestColumns) -> tuple[int, int, int]:
    """Store the events in commits of CHUNK; returns last sequence, accepted, duplicates."""
    columns.check()
    accepted, sequence = 0, 0
    n = len(columns.times_ms)
    keys = _Keys(columns)
    for first in range(0, max(n, 1), CHUNK):
        last = min(first + CHUNK, n)
        added, sequence = store.write(partial(_append_chunk, columns=columns, keys=keys, first=first, last=last))
        accepted += added
    return sequence, accepted, n - accepted


class _Keys:
    """Keys of the columns' users and items by code, found or made as they are needed; 0 for not yet."""

    def __init__(self, columns: IngestColumns) -> None:
        self.users, self.items = columns.user_ids, columns.item_ids
        self.user_keys = np.zeros(len(self.users.values), dtype=np.int64)
        self.item_keys = np.zeros(len(self.items.values), dtype=np.int64)
        self.n_erasures = 0

    def prepare(self, connection: sqlite3.Connection, part: slice) -> None:
        """Fill in the keys of the rows of ``part``."""
        n_erasures = connection.execute("SELECT count(*) FROM erasures").fetchone()[0]
        if n_erasures != self.n_erasures:  # a key in hand may be that of a person forgotten since
            self.user_keys[:] = 0
            self.n_erasures = n_erasures
        for code in self._missing(self.user_keys, self.users.codes[part]):
            self.user_keys[code] = ensure_subject(connection, self.users.values[code])
        for code in self._missing(self.item_keys, self.items.codes[part]):
            self.item_keys[code] = items.ensure(connection, self.items.values[code])

    @staticmethod
    def _missing(keys: Int64, codes: Int64) -> list[int]:
        used = np.unique(codes)
        return [int(code) for code in used[keys[used] == 0]]


def _append_chunk(
    connection: sqlite3.Connection, columns: IngestColumns, keys: _Keys, first: int, last: int
) -> tuple[int, int]:
    keys.prepare(connection, slice(first, last))
    before = connection.total_changes
    connection.executemany(_INSERT, columns.rows(first, last, keys.user_keys, keys.item_keys))
    accepted = connection.total_changes - before
    sequence = connection.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0]
    return accepted, int(sequence)


_INSERT = (
    "INSERT INTO events (event_id, subject_key, type, item_key, time_ms, quantity, price_micros, channel) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
)
